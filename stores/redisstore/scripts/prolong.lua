-- prolong starts the time to live of the checkpoint anew; 0 is none. To be
-- called only if it is there.
local function prolong(moment, ttl)
  local due = 0
  if ttl ~= '0' then
    due = moment + ttl
    redis.call('PEXPIREAT', record, due)
  elseif string.find(saved, ' due=0$') then
    return
  else
    redis.call('PERSIST', record)
  end
  saved = string.gsub(saved, ' due=%d+$', ' due=' .. due)
  redis.call('HSET', fence, 'saved', saved)
end
