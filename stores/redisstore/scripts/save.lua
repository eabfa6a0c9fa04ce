-- ARGV after those: checkpoint, time to live, sequence, "seq=… token=… sha1=…"
local sequence = tonumber(ARGV[5])
if sequence ~= 0 and sequence <= last then
  if sequence < last then return {'STALE', last} end
  -- A repeated save is success, provided it can be seen to be one.
  local known = saved and string.match(saved, '^seq=%d+ token=%x+ ')
  if known ~= string.match(ARGV[6], '^seq=%d+ token=%x+ ') or redis.call('EXISTS', record) == 0 then return {'USED'} end
end

-- The server refuses a script's first write (no memory, a replica) or none. GET
-- has it refuse as well what is no string.
local due, set = 0, nil
if ARGV[4] == '0' then
  set = redis.pcall('SET', record, ARGV[3], 'GET')
else
  due = now() + ARGV[4]
  set = redis.pcall('SET', record, ARGV[3], 'PXAT', due, 'GET')
end
if type(set) == 'table' and set.err then return set end
saved = ARGV[6] .. ' epoch=' .. epoch .. ' due=' .. due
if sequence == 0 then
  redis.call('HSET', fence, 'saved', saved)
else
  redis.call('HSET', fence, 'saved', saved, 'last', ARGV[5])
end
if ousts then redis.call('HDEL', fence, 'nonce', 'owner', 'until') end
if ousts or not h[1] then redis.call('HSET', fence, 'version', 1, 'epoch', epoch) end
return 1
