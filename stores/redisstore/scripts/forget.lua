-- Stands alone: it takes damage away as well, but nothing of another type than
-- this store's.
local h = redis.pcall('HMGET', KEYS[2], 'nonce', 'until', 'owner')
if h.err then return h end
local size = redis.pcall('STRLEN', KEYS[1])
if type(size) == 'table' then return size end
local t, ends = redis.call('TIME'), tonumber(h[2] or 0)
local left = (ends or 0) - t[1] * 1000 - math.floor(t[2] / 1000)
if h[1] and left > 0 then return {'HELD', h[3] or '', left} end
local del = redis.pcall('DEL', KEYS[1], KEYS[2])
if type(del) == 'table' then return del end
return 1
