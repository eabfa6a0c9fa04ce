-- Reads a key in the form of version 1, or moves it to that of version 2. In version 1
-- the record had a name that changed, and a head: a digest, the last sequence, the
-- epoch. KEYS: the record, the fence, the mark, the record of version 1. ARGV: 1 to
-- move, the caller's nonce, 1 to steal the lease.
-- The reply is that of load, or 1 for a move; AGAIN if the record has another name now.
local record, fence, mark, old = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local h = redis.call('HMGET', fence, 'version', 'seal', 'due', 'last', 'epoch', 'nonce', 'until', 'owner')
if h[1] ~= '1' or old ~= mark .. ':' .. (h[2] or '') then return {'AGAIN'} end
local due, last, epoch, ends = tonumber(h[3] or 0), tonumber(h[4] or 0), tonumber(h[5] or 0), tonumber(h[7] or 0)
if not (due and last and epoch and ends) then return {'BAD', fence, 'has a field that is not a number'} end
local t = redis.call('TIME')
local left = ends - t[1] * 1000 - math.floor(t[2] / 1000)
local live = h[6] and left > 0
-- A program of the old version that has the lease is not disturbed.
if ARGV[1] == '1' and live and h[6] ~= ARGV[2] and ARGV[3] ~= '1' then return {'HELD', h[8] or '', left} end

local value, saved, found = redis.pcall('GET', old), 0, 'NONE'
if type(value) == 'table' then return value end
if not value then
  if h[2] ~= '0' or due == 0 or due > t[1] * 1000 then return {'GONE'} end
  found, saved, value = 'EXPIRED', epoch, ''
else
  if redis.sha1hex(string.sub(value, 42)) .. ' ' ~= string.sub(value, 1, 41) then return {'BAD', old, 'is not what was saved'} end
  local l, e, document = string.match(value, '^%x+ (%d+) (%d+) (.*)$')
  last, saved, value = math.max(last, tonumber(l)), tonumber(e), ''
  if document ~= '' then
    local body = string.sub(document, 1, -2)
    found, value = 'OK', body .. ',"sha1":"' .. redis.sha1hex(body) .. '"}'
  end
end
if ARGV[1] ~= '1' then return {found, value, saved, live and 1 or 0, live and h[8] or ''} end

local done
if found == 'OK' and due > 0 then
  done = redis.pcall('SET', record, value, 'PXAT', due)
elseif found == 'OK' then
  done = redis.pcall('SET', record, value)
end
if type(done) == 'table' and done.err then return done end
redis.call('HSET', fence, 'version', 2, 'epoch', epoch, 'last', last, 'due', due)
if found ~= 'NONE' then redis.call('HSET', fence, 'saved', saved) end
redis.call('HDEL', fence, 'seal')
redis.call('DEL', mark, old)
return 1
