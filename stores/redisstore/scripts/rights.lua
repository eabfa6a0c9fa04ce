-- Runs each command that the other scripts run, on a name of its own, and leaves
-- nothing. The reply names one that the user may not run: a script that found that out
-- half way would have done the other half.
local k = KEYS[1]
for _, c in ipairs({
  {'DEL', k}, {'TIME'}, {'EXISTS', k}, {'GET', k}, {'STRLEN', k}, {'SET', k, '', 'PX', 1000},
  {'PEXPIREAT', k, 1}, {'PERSIST', k}, {'DEL', k},
  {'HSET', k, 'a', ''}, {'HGET', k, 'a'}, {'HMGET', k, 'a'}, {'HDEL', k, 'a'}, {'DEL', k},
}) do
  local r = redis.pcall(unpack(c))
  if type(r) == 'table' and r.err and (string.find(r.err, "The user executing the script can't", 1, true) or string.find(r.err, 'NOPERM', 1, true) or string.find(r.err, 'ACL failure', 1, true)) then
    redis.pcall('DEL', k)
    return {'LACKS', string.lower(c[1]), r.err}
  end
end
return 1
