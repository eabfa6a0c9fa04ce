-- Begins every script but forget, old, ping and rights. The rules are those of
-- record.Admit and its kin. KEYS: the record, the fence.
-- A server's error is returned unchanged; WRONGTYPE, which says that a value of
-- another type has a name of ours, is explained by the caller.
local record, fence = KEYS[1], KEYS[2]
local h = redis.pcall('HMGET', fence, 'version', 'epoch', 'nonce', 'until', 'last', 'saved', 'due')
if h.err then return h end
-- saved is the epoch that the record was saved under, and false if there is to be no
-- record; due is when the record expires in ms, 0 for never.
local nonce, saved, ousts = h[3], h[6], false
local epoch, ends, last, due = tonumber(h[2] or 0), tonumber(h[4] or 0), tonumber(h[5] or 0), tonumber(h[7] or 0)
if h[1] ~= '2' then
  if h[1] == '1' then return {'OLD', redis.call('HGET', fence, 'seal') or ''} end
  local newer = tonumber(h[1])
  if newer and newer > 2 then return {'NEWER', h[1]} end
  if redis.call('EXISTS', fence) == 1 then return {'BAD', fence, 'has no version that can be read'} end
end
if not (epoch and ends and last and due and tonumber(saved or 0) and epoch >= 0 and ends >= 0 and last >= 0 and due >= 0) then
  return {'BAD', fence, 'has a field that is not a number'}
end
local now, stray -- in helpers
