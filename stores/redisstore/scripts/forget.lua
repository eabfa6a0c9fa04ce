-- Stands alone: it also removes damage, but no value of a type that this store does
-- not write. KEYS: the record, the fence. The other names are those of version 1.
local record, fence = KEYS[1], KEYS[2]
local h = redis.pcall('HMGET', fence, 'nonce', 'until', 'owner', 'seal')
if h.err then return h end
local mark = record .. ':cp'
local names = {record, mark, mark .. ':' .. (h[4] or '0')}
for _, name in ipairs(names) do
  local size = redis.pcall('STRLEN', name)
  if type(size) == 'table' then return size end
end
local t, ends = redis.call('TIME'), tonumber(h[2] or 0)
local left = (ends or 0) - t[1] * 1000 - math.floor(t[2] / 1000)
if h[1] and left > 0 then return {'HELD', h[3] or '', left} end
local del = redis.pcall('DEL', fence, unpack(names))
if type(del) == 'table' then return del end
return 1
