-- Stands before every script. The rules are those of state.Admit and its kin.
-- Times are milliseconds of this server's clock.
local record, fence = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- number reads a whole number without a sign, as this store writes them.
local function number(s)
  return s and #s < 17 and string.find(s, '^%d+$') and tonumber(s)
end

-- failed is the answer where a command failed: another type of value under a
-- key of ours is damage, all else is the server's own error.
local function failed(key, err)
  if string.find(err, 'WRONGTYPE', 1, true) then
    return {'BAD', key, 'holds another type of value'}
  end
  return {err = err}
end

-- read returns what the fence says, r.more being the further fields asked for;
-- or nil and the answer with which the script ends.
local function read(...)
  local h = redis.pcall('HMGET', fence, 'version', 'status', 'epoch', 'nonce', 'until', 'last', ...)
  if h.err then return nil, failed(fence, h.err) end
  local size = redis.pcall('STRLEN', record)
  if type(size) == 'table' then return nil, failed(record, size.err) end
  if not h[1] then
    if redis.call('EXISTS', fence) == 1 then return nil, {'BAD', fence, 'has no version'} end
    if size > 0 then return nil, {'BAD', fence, 'is gone, and the checkpoint that it belongs to is not'} end
    return {status = 'never', epoch = 0, last = 0, size = 0, more = {}}
  end
  if h[1] ~= '1' then
    if number(h[1]) and number(h[1]) > 1 then return nil, {'NEWER', h[1]} end
    return nil, {'BAD', fence, 'has a version that is no number'}
  end
  local r = {status = h[2], epoch = number(h[3]), nonce = h[4], ends = number(h[5] or '0'),
    last = number(h[6] or '0'), size = size, more = {unpack(h, 7)}}
  if not (r.epoch and r.ends and r.last) then return nil, {'BAD', fence, 'has a field that is no number'} end
  if r.status ~= 'saved' and r.status ~= 'cleared' and r.status ~= 'never' then
    return nil, {'BAD', fence, 'has an unknown status'}
  end
  if r.status ~= 'saved' and size > 0 then return nil, {'BAD', record, 'holds what no save has put there'} end
  r.live = r.nonce and now < r.ends
  return r
end

-- held is the answer to whom another one's lease keeps out.
local function held(r)
  return {'HELD', redis.call('HGET', fence, 'owner') or '', r.ends - now}
end

-- admit returns the answer with which a write is refused, if it is. epoch is ''
-- for an unfenced one; that takes the place of an owner whose lease ran out.
local function admit(r, epoch, nonce)
  if epoch ~= '' then
    if r.nonce ~= nonce or r.epoch ~= tonumber(epoch) then return {'FENCED'} end
  elseif r.live then
    return held(r)
  elseif r.nonce then
    r.epoch, r.ousts = r.epoch + 1, true
  end
end

-- missing says why there is no checkpoint where one was saved.
local function missing()
  local due = number(redis.call('HGET', fence, 'due'))
  return due and now >= due and 'EXPIRED' or 'GONE'
end

-- prolong starts the time to live of a checkpoint that is there anew; 0 is none.
local function prolong(ttl)
  if ttl > 0 then
    redis.call('PEXPIREAT', record, now + ttl)
    redis.call('HSET', fence, 'due', now + ttl)
  elseif redis.call('HDEL', fence, 'due') == 1 then
    redis.call('PERSIST', record)
  end
end
