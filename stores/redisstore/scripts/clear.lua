-- ARGV: epoch, nonce
local r, refusal = read()
if refusal then return refusal end
refusal = admit(r, ARGV[1], ARGV[2])
if refusal then return refusal end
if r.status == 'saved' then
  local del = redis.pcall('DEL', record)
  if type(del) == 'table' then return failed(record, del.err) end
end
if r.epoch == 0 and r.last == 0 then
  local del = redis.pcall('DEL', fence)
  if type(del) == 'table' then return failed(fence, del.err) end
  return {'OK'}
end
if r.status == 'saved' or r.ousts then
  local set = redis.pcall('HSET', fence, 'epoch', r.epoch, 'status', r.status == 'saved' and 'cleared' or r.status)
  if type(set) == 'table' then return failed(fence, set.err) end
  redis.call('HDEL', fence, 'sequence', 'token', 'sum', 'savedEpoch', 'due')
  if r.ousts then redis.call('HDEL', fence, 'nonce', 'owner', 'until') end
end
return {'OK'}
