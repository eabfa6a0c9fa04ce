-- ARGV: sure, owner, nonce, duration of the lease, 1 to steal, time to live, seal
-- The answer OK: epoch, last sequence, what was found and the record, 1 if it lies
-- under the seal.
local moment, grants = now(), nonce ~= ARGV[3]
if grants then
  if nonce and moment < ends and ARGV[5] ~= '1' then
    return {'HELD', redis.call('HGET', fence, 'owner') or '', ends - moment}
  end
  epoch = epoch + 1
end

-- Whoever can't read the checkpoint must not shut out an owner who perhaps can.
local found, to, at = 'NONE', ARGV[7], 0
if h[1] then
  local err = read()
  if err then return err end
  if missing == 'GONE' then return {'GONE', name(seal)} end
  if missing then
    found, to = missing, OPEN
  else
    if redis.sha1hex(string.sub(value, 42, -1)) .. ' ' ~= string.sub(value, 1, 41) then return {'BAD', name(seal), 'is not what was saved'} end
    if string.find(value, '^%x+ %d+ %d+ {') then
      found = 'OK'
      if ARGV[6] ~= '0' then to, at = OPEN, moment + ARGV[6] end
    end
  end
end

local err
if value then
  err = move(to, at)
elseif not h[1] then
  err = put(complete(''), to, 0)
end
if err then return err end
redis.call('HSET', fence, 'epoch', epoch, 'nonce', ARGV[3], 'until', moment + ARGV[4])
if grants then redis.call('HSET', fence, 'owner', ARGV[2]) end
return {'OK', epoch, last, found, value or '', to == OPEN and 0 or 1}
