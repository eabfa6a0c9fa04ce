-- A write that leaves nothing: a server that is full, or a replica, answers PING.
local set = redis.pcall('SET', KEYS[1], '', 'PX', 1000)
if set.err then return set end
redis.call('DEL', KEYS[1])
return 1
