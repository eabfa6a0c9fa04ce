-- ARGV: sure, epoch, nonce, seal. Where the fence is not the current one there is
-- nothing to release.
if nonce == ARGV[3] and epoch == tonumber(ARGV[2]) then
  if seal ~= OPEN then
    if redis.call('EXISTS', name(seal)) == 1 then
      local err = move(ARGV[4], 0)
      if err then return err end
    elseif not sure then
      return {'GONE', name(seal)}
    end
  end
  local del = redis.pcall('HDEL', fence, 'nonce', 'owner', 'until')
  if type(del) == 'table' then return del end
end
return 1
