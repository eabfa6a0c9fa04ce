-- ARGV: checkpoint, time to live, epoch, nonce, sequence, digest of the token, sum
local r, refusal = read()
if refusal then return refusal end
refusal = admit(r, ARGV[3], ARGV[4])
if refusal then return refusal end

local ttl, sequence = tonumber(ARGV[2]), tonumber(ARGV[5])
if sequence ~= 0 then
  if sequence < r.last then return {'STALE', r.last} end
  if sequence == r.last then
    local saved = redis.call('HMGET', fence, 'sequence', 'token')
    if r.size == 0 or number(saved[1]) ~= sequence or saved[2] ~= ARGV[6] then return {'USED'} end
  end
  r.last = sequence
end

-- The server refuses a script's first write or none (no memory, a replica).
local set
if ttl > 0 then
  set = redis.pcall('SET', record, ARGV[1], 'PXAT', now + ttl)
else
  set = redis.pcall('SET', record, ARGV[1])
end
if set.err then return failed(record, set.err) end
redis.call('HSET', fence, 'version', 1, 'status', 'saved', 'epoch', r.epoch, 'last', r.last,
  'sequence', sequence, 'token', ARGV[6], 'sum', ARGV[7], 'savedEpoch', r.epoch)
if ttl > 0 then
  redis.call('HSET', fence, 'due', now + ttl)
elseif r.size > 0 or r.status == 'saved' then
  redis.call('HDEL', fence, 'due')
end
if r.ousts then redis.call('HDEL', fence, 'nonce', 'owner', 'until') end
return {'OK'}
