-- Reads only. The answer OK: checkpoint, sum, epoch it was saved under, whether
-- somebody holds the lease, and who.
local r, refusal = read('owner', 'sum', 'savedEpoch')
if refusal then return refusal end
local live, owner = r.live and 1 or 0, r.live and r.more[1] or ''
if r.status ~= 'saved' then return {'NONE', '', '', '', live, owner} end
if r.size == 0 then return {missing(), '', '', '', live, owner} end
return {'OK', redis.call('GET', record), r.more[2], r.more[3], live, owner}
