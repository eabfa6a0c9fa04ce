-- Reads only. The answer OK: checkpoint, what was saved, whether somebody holds
-- the lease, and who.
local live, owner = 0, ''
if nonce and now() < ends then live, owner = 1, redis.call('HGET', fence, 'owner') end
if not saved then return {'NONE', '', '', live, owner} end
local value = redis.pcall('GET', record)
if not value then return {missing(), '', '', live, owner} end
if type(value) == 'table' then return value end
return {'OK', value, saved, live, owner}
