-- The reply: what was found, the record, its epoch, and how long a live lease lasts, in
-- ms, and its owner.
-- A server that has become a replica would answer with what it has. It answers
-- READONLY to a write, even to one that changes nothing.
local write = redis.pcall('HDEL', fence, '')
if type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) then return write end
local live, owner = 0, ''
if nonce then live = math.max(0, ends - now()) end
if live > 0 then owner = redis.call('HGET', fence, 'owner') or '' end
local found, value, err = read()
if err then
  if err[1] == 'GONE' then return {'GONE', '', 0, live, owner} end
  return err
end
return {found, value, tonumber(saved or 0), live, owner}
