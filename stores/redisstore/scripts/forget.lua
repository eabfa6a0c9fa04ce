-- Takes damage away as well, but nothing of another type than this store's.
local h = redis.pcall('HMGET', fence, 'nonce', 'until')
if h.err then return failed(fence, h.err) end
local size = redis.pcall('STRLEN', record)
if type(size) == 'table' then return failed(record, size.err) end
local ends = number(h[2])
if h[1] and ends and now < ends then return held({ends = ends}) end
local del = redis.pcall('DEL', record, fence)
if type(del) == 'table' then return failed(fence, del.err) end
return {'OK'}
