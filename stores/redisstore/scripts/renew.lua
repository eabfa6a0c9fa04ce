-- ARGV: epoch, nonce, duration of the lease, time to live
local r, refusal = read()
if refusal then return refusal end
refusal = admit(r, ARGV[1], ARGV[2])
if refusal then return refusal end
local set = redis.pcall('HSET', fence, 'until', now + ARGV[3])
if type(set) == 'table' then return failed(fence, set.err) end
if r.size > 0 then prolong(tonumber(ARGV[4])) end
return {'OK'}
