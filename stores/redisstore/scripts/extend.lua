-- extend starts the time to live of the record again, or ends it for a store without
-- one. One that has expired stays so.
local function extend(moment, ttl)
  if not saved or ttl == '0' and due == 0 then return end
  local at, done = 0, nil
  if ttl == '0' then
    done = redis.call('PERSIST', record)
  else
    at = moment + ttl
    done = redis.call('PEXPIREAT', record, at)
  end
  if done == 1 then redis.call('HSET', fence, 'due', at) end
end
