-- Stands alone: it takes damage away as well, but nothing of another type than
-- this store's.
local record, fence = KEYS[1], KEYS[2]
local h = redis.pcall('HMGET', fence, 'nonce', 'until', 'owner')
if h.err then
  if string.find(h.err, 'WRONGTYPE', 1, true) then return {'BAD', fence, 'holds another type of value'} end
  return h
end
local size = redis.pcall('STRLEN', record)
if type(size) == 'table' then
  if string.find(size.err, 'WRONGTYPE', 1, true) then return {'BAD', record, 'holds another type of value'} end
  return size
end
local t, ends = redis.call('TIME'), tonumber(h[2] or 0)
local left = (ends or 0) - t[1] * 1000 - math.floor(t[2] / 1000)
if h[1] and left > 0 then return {'HELD', h[3] or '', left} end
local del = redis.pcall('DEL', record, fence)
if type(del) == 'table' then return del end
return 1
