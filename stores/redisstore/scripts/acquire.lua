-- ARGV: owner, nonce, duration of the lease, 1 to steal, time to live.
-- The reply GRANTED: epoch, last sequence, what was found, the record, its epoch.
local moment, grants = now(), nonce ~= ARGV[2]
if grants then
  if nonce and moment < ends and ARGV[4] ~= '1' then
    return {'HELD', redis.call('HGET', fence, 'owner') or '', ends - moment}
  end
  epoch = epoch + 1
end
-- Who can't read the checkpoint must not fence off an owner who perhaps can.
local found, value, err = read()
if err then return err end
if found == 'OK' and string.sub(value, -51) ~= ',"sha1":"' .. redis.sha1hex(string.sub(value, 1, -52)) .. '"}' then
  return {'BAD', record, 'is not what was saved'}
end
local set = redis.pcall('HSET', fence, 'version', 2, 'epoch', epoch, 'nonce', ARGV[2], 'until', moment + ARGV[3])
if type(set) == 'table' then return set end
if grants then redis.call('HSET', fence, 'owner', ARGV[1]) end
extend(moment, ARGV[5])
return {'GRANTED', epoch, last, found, value, tonumber(saved or 0)}
