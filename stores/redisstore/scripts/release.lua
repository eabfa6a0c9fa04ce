-- ARGV: epoch, nonce
local r, refusal = read()
if refusal then return refusal end
if not admit(r, ARGV[1], ARGV[2]) then
  local del = redis.pcall('HDEL', fence, 'nonce', 'owner', 'until')
  if type(del) == 'table' then return failed(fence, del.err) end
end
return {'OK'}
