-- ARGV after those: sequence, the record, its length up to the end of the token, time
-- to live. The reply is 1, or LOST if the previous record had disappeared.
local sequence, at, set = tonumber(ARGV[3]), 0, nil
if not saved then
  local err = stray()
  if err then return err end
end
if sequence ~= 0 and sequence <= last then
  if sequence < last then return {'STALE', last} end
  -- A repeated save succeeds if the record shows that it is one.
  local was, token = saved and redis.pcall('GET', record) or '', tonumber(ARGV[5])
  if type(was) == 'table' then return was end
  local rest = string.gsub(string.sub(was, token + 1), '^,"startAfter":true', '')
  rest = string.gsub(rest, '^,"clusterTime":{"t":%d+,"i":%d+}', '')
  if string.sub(was, 1, token) ~= string.sub(ARGV[4], 1, token) or string.match(rest, '^,"sequence":(%d+)') ~= ARGV[3] then
    return {'USED'}
  end
end
if sequence ~= 0 then last = sequence end
-- With GET, SET returns the previous record, and refuses to replace another type.
if ARGV[6] == '0' then
  set = redis.pcall('SET', record, ARGV[4], 'GET')
else
  at = now() + ARGV[6]
  set = redis.pcall('SET', record, ARGV[4], 'PXAT', at, 'GET')
end
if type(set) == 'table' and set.err then return set end
-- Numbers cost more than text, so the usual save writes one field.
local done
if saved and saved == h[2] and at == due and not ousts then
  if sequence ~= 0 then done = redis.pcall('HSET', fence, 'last', ARGV[3]) end
else
  done = redis.pcall('HSET', fence, 'version', 2, 'epoch', epoch, 'last', last, 'saved', epoch, 'due', at)
end
if type(done) == 'table' then
  if not h[1] then redis.call('DEL', record) end
  return done
end
if ousts then redis.call('HDEL', fence, 'nonce', 'owner', 'until') end
if saved and not set and not (due > 0 and now() >= due) then return {'LOST'} end
return 1
