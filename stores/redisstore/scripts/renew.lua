-- ARGV after those: duration of the lease, time to live.
local moment = now()
local set = redis.pcall('HSET', fence, 'until', moment + ARGV[3])
if type(set) == 'table' then return set end
extend(moment, ARGV[4])
return 1
