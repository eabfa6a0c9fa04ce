-- A write that leaves nothing: a server that is full or a replica answers PING.
local set = redis.pcall('SET', record, '', 'PX', 1000)
if set.err then return failed(record, set.err) end
redis.call('DEL', record)
return {'OK'}
