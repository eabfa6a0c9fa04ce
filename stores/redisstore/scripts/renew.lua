-- ARGV after those: duration of the lease, time to live
local size = 0
if saved then
  size = redis.pcall('STRLEN', record)
  if type(size) == 'table' then return size end
end
local moment = now()
local set = redis.pcall('HSET', fence, 'until', moment + ARGV[3])
if type(set) == 'table' then return set end
if size > 0 then prolong(moment, ARGV[4]) end
return 1
