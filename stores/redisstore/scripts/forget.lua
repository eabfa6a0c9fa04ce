-- Stands alone: it takes damage away as well, but nothing of another type than
-- this store's.
local fence, mark = KEYS[1], KEYS[2]
local h = redis.pcall('HMGET', fence, 'nonce', 'until', 'owner', 'seal')
if h.err then return h end
local record = mark .. ':' .. (h[4] or '0')
local size = redis.pcall('STRLEN', mark)
if type(size) == 'table' then return size end
size = redis.pcall('STRLEN', record)
if type(size) == 'table' then return size end
local t, ends = redis.call('TIME'), tonumber(h[2] or 0)
local left = (ends or 0) - t[1] * 1000 - math.floor(t[2] / 1000)
if h[1] and left > 0 then return {'HELD', h[3] or '', left} end
if size == 0 and h[4] and ARGV[1] ~= '1' then return {'GONE', record} end
local del = redis.pcall('DEL', record, mark, fence)
if type(del) == 'table' then return del end
return 1
