-- Stands before every script. The rules are those of record.Admit and its kin.
-- KEYS: the fence, the mark, and perhaps one name of a record, only so that a
-- Cluster knows of it. ARGV[1] is '1' if a record that is not there is certainly
-- not there (see GONE in call.go).
-- An error of the server's is returned as it is; WRONGTYPE, which says that another
-- type of value lies under a key of ours, is the caller's to explain.
-- Each command, and each function made, costs as much as ten lines of the rest:
-- what is seldom needed (the clock, say) is asked for late.
local fence, mark, sure = KEYS[1], KEYS[2], ARGV[1] == '1'
local h = redis.pcall('HMGET', fence, 'version', 'epoch', 'nonce', 'until', 'last', 'seal', 'due')
if h.err then return h end
local nonce, seal, ousts = h[3], h[6], false
local epoch, ends, last, due = tonumber(h[2] or 0), tonumber(h[4] or 0), tonumber(h[5] or 0), tonumber(h[7] or 0)
if h[1] ~= '1' then
  local newer = tonumber(h[1])
  if newer and newer > 1 then return {'NEWER', h[1]} end
  if redis.call('EXISTS', fence) == 1 then return {'BAD', fence, 'has no version that could be read'} end
end
if not (epoch and ends and last and due and epoch >= 0 and ends >= 0 and last >= 0 and due >= 0) then
  return {'BAD', fence, 'has a field that is no number'}
end
if h[1] and not seal then return {'BAD', fence, 'has no seal'} end

-- now is this server's clock in milliseconds.
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- name is that of the record under a seal, OPEN the seal of records that only
-- scripts write: those that expire.
local OPEN = '0'
local function name(s) return mark .. ':' .. s end
