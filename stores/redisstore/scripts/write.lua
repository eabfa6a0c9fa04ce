-- Stands before what may be done under a fence only. ARGV: epoch, nonce; an
-- unfenced write has the epoch '', and takes the place of an owner whose lease
-- ran out.
local ousts = false
if ARGV[1] ~= '' then
  if nonce ~= ARGV[2] or epoch ~= tonumber(ARGV[1]) then return {'FENCED'} end
elseif nonce then
  local left = ends - now()
  if left > 0 then return {'HELD', redis.call('HGET', fence, 'owner') or '', left} end
  epoch, ousts = epoch + 1, true
end
