-- Keeps what protects the key: epoch and last sequence.
if not saved then
  local err = stray()
  if err or not h[1] then return err or 1 end
end
local size = redis.pcall('STRLEN', record)
if type(size) == 'table' then return size end
local del
if epoch == 0 and last == 0 then
  del = redis.pcall('DEL', record, fence)
else
  del = redis.pcall('DEL', record)
end
if type(del) == 'table' then return del end
if epoch == 0 and last == 0 then return 1 end
redis.call('HDEL', fence, 'saved', 'due')
if ousts then
  redis.call('HSET', fence, 'epoch', epoch)
  redis.call('HDEL', fence, 'nonce', 'owner', 'until')
end
return 1
