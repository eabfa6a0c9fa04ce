-- ARGV after those: seal. The answer OK, if anything was to be done: epoch, last
-- sequence.
if not h[1] then return 1 end
local err = read()
if err then return err end
if missing == 'GONE' and not sure then return {'GONE', name(seal)} end
if epoch == 0 and last == 0 then
  local del = redis.pcall('DEL', name(seal), mark, fence)
  if type(del) == 'table' then return del end
  return 1
end
if value and string.find(value, '^%x+ %d+ %d+ $') and not ousts then return 1 end
return put(complete(''), ARGV[4], 0) or {'OK', epoch, last}
