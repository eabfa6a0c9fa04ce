local size = redis.pcall('STRLEN', record)
if type(size) == 'table' then return size end
if epoch == 0 and last == 0 then
  local del = redis.pcall('DEL', record, fence)
  if type(del) == 'table' then return del end
elseif saved or ousts then
  local set = redis.pcall('HSET', fence, 'epoch', epoch)
  if type(set) == 'table' then return set end
  redis.call('DEL', record)
  redis.call('HDEL', fence, 'saved')
  if ousts then redis.call('HDEL', fence, 'nonce', 'owner', 'until') end
end
return 1
