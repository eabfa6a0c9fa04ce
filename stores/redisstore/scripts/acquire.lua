-- ARGV: owner, nonce, duration of the lease, 1 to steal, time to live
-- The answer OK: epoch, last sequence, and then as load's.
local moment, grants = now(), nonce ~= ARGV[2]
if grants then
  if nonce and moment < ends and ARGV[4] ~= '1' then
    return {'HELD', redis.call('HGET', fence, 'owner') or '', ends - moment}
  end
  epoch = epoch + 1
end

-- Whoever can't read the checkpoint must not shut out an owner who perhaps can.
local found, value = 'NONE', ''
if saved then
  value = redis.pcall('GET', record)
  if not value then
    found, value = missing(), ''
    if found == 'GONE' then return {'GONE'} end
  elseif type(value) == 'table' then
    return value
  elseif redis.sha1hex(value) ~= string.match(saved, ' sha1=(%x+) ') then
    return {'BAD', record, 'is not what was saved'}
  else
    found = 'OK'
  end
end

local set = redis.pcall('HSET', fence, 'version', 1, 'epoch', epoch, 'nonce', ARGV[2], 'until', moment + ARGV[3])
if type(set) == 'table' then return set end
if grants then redis.call('HSET', fence, 'owner', ARGV[1]) end
if found == 'OK' then prolong(moment, ARGV[5]) end
return {'OK', epoch, last, found, value, saved or ''}
