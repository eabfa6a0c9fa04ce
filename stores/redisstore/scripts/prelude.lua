-- Stands before every script. The rules are those of state.Admit and its kin.
-- Each command costs the server a microsecond or two, as much as all else here,
-- so what is seldom needed (the clock, the type of the record) is asked for late.
local record, fence = KEYS[1], KEYS[2]

-- failed is the answer where a command failed: another type of value under a
-- key of ours is damage, all else is the server's own error.
local function failed(key, err)
  if string.find(err, 'WRONGTYPE', 1, true) then
    return {'BAD', key, 'holds another type of value'}
  end
  return {err = err}
end

local h = redis.pcall('HMGET', fence, 'version', 'epoch', 'nonce', 'until', 'last', 'saved')
if h.err then return failed(fence, h.err) end
local nonce, saved = h[3], h[6]
local epoch, ends, last = tonumber(h[2] or 0), tonumber(h[4] or 0), tonumber(h[5] or 0)
if h[1] ~= '1' then
  local newer = tonumber(h[1])
  if newer and newer > 1 then return {'NEWER', h[1]} end
  if redis.call('EXISTS', fence) == 1 then return {'BAD', fence, 'has no version that could be read'} end
end
if not (epoch and ends and last and epoch >= 0 and ends >= 0 and last >= 0) then
  return {'BAD', fence, 'has a field that is no number'}
end

-- now is this server's clock in milliseconds.
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- held is the answer to whom another one's lease keeps out.
local function held()
  return {'HELD', redis.call('HGET', fence, 'owner') or '', ends - now()}
end

-- stray is the answer if the record is there and no save has put it there.
local function stray()
  local size = redis.pcall('STRLEN', record)
  if type(size) == 'table' then return failed(record, size.err) end
  if size == 0 then return nil end
  if not h[1] then return {'BAD', fence, 'is gone, and the checkpoint that it belongs to is not'} end
  return {'BAD', record, 'holds what no save has put there'}
end

-- missing says why there is no checkpoint where one was saved.
local function missing()
  local due = tonumber(string.match(saved, ' due=(%d+)$') or 0)
  return due > 0 and now() >= due and 'EXPIRED' or 'GONE'
end
