-- ARGV after those: duration of the lease, time to live
local moment, err = now(), nil
if ARGV[5] ~= '0' or seal == OPEN then
  err = read()
  if err then return err end
end
local set = redis.pcall('HSET', fence, 'until', moment + ARGV[4])
if type(set) == 'table' then return set end
if value and string.find(value, '^%x+ %d+ %d+ {') then
  err = move(OPEN, ARGV[5] == '0' and 0 or moment + ARGV[5])
end
return err or 1
