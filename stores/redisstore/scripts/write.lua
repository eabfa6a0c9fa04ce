-- Begins what is done under a fence only. ARGV: epoch, nonce. An unfenced write has
-- the epoch '', and fences off the owner of an expired lease.
if ARGV[1] ~= '' then
  if nonce ~= ARGV[2] or epoch ~= tonumber(ARGV[1]) then return {'FENCED', h[1] and 1 or 0} end
elseif nonce then
  local left = ends - now()
  if left > 0 then return {'HELD', redis.call('HGET', fence, 'owner') or '', left} end
  epoch, ousts = epoch + 1, true
end
