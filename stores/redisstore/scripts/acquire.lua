-- ARGV: owner, nonce, duration of the lease, 1 to steal, time to live
-- The answer OK: epoch, last sequence, and then as load's.
local r, refusal = read('sum', 'savedEpoch')
if refusal then return refusal end
if r.nonce ~= ARGV[2] then
  if r.live and ARGV[4] ~= '1' then return held(r) end
  r.epoch, r.grants = r.epoch + 1, true
end

-- Whoever can't read the checkpoint must not shut out an owner who perhaps can.
local found, value = 'NONE', ''
if r.status == 'saved' then
  if r.size > 0 then
    found, value = 'OK', redis.call('GET', record)
    if redis.sha1hex(value) ~= r.more[1] then return {'BAD', record, 'is not what was saved'} end
  else
    found = missing()
    if found == 'GONE' then return {'GONE'} end
  end
end

local set = redis.pcall('HSET', fence, 'version', 1, 'status', r.status, 'epoch', r.epoch, 'last', r.last,
  'nonce', ARGV[2], 'until', now + ARGV[3])
if type(set) == 'table' then return failed(fence, set.err) end
if r.grants then redis.call('HSET', fence, 'owner', ARGV[1]) end
if found == 'OK' then prolong(tonumber(ARGV[5])) end
return {'OK', r.epoch, r.last, found, value, r.more[1], r.more[2]}
