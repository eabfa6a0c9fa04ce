-- Stands before what may be done under a fence only. ARGV: sure, epoch, nonce; an
-- unfenced write has the epoch '', and takes the place of an owner whose lease
-- ran out.
if ARGV[2] ~= '' then
  if nonce ~= ARGV[3] or epoch ~= tonumber(ARGV[2]) then return {'FENCED'} end
elseif nonce then
  local left = ends - now()
  if left > 0 then return {'HELD', redis.call('HGET', fence, 'owner') or '', left} end
  epoch, ousts = epoch + 1, true
end
