-- Reads only. The answer OK: record, whether somebody holds the lease, and who.
-- A server that has become a replica would answer with what it knows. It says READONLY
-- to a write, of nothing as well.
local write = redis.pcall('DEL', fence .. ':none')
if type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) then return write end
local live, owner = 0, ''
if nonce and now() < ends then live, owner = 1, redis.call('HGET', fence, 'owner') end
if not h[1] then return {'NONE', '', live, owner} end
local err = read()
if err then return err end
if missing == 'GONE' then return {missing, name(seal), live, owner} end
return {missing or 'OK', value or '', live, owner}
