-- ARGV: epoch, nonce. If the fence is not the current one, there is nothing to release.
if nonce == ARGV[2] and epoch == tonumber(ARGV[1]) then
  local del = redis.pcall('HDEL', fence, 'nonce', 'owner', 'until')
  if type(del) == 'table' then return del end
end
return 1
