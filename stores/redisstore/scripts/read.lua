-- read sets value to the record or, where there is none, missing to why. The last
-- sequence in a record is later than what the fence remembers. It returns an error.
local value, missing = false, nil
local function read()
  value = redis.pcall('GET', name(seal))
  if type(value) == 'table' then return value end
  if not value then
    missing = seal == OPEN and due > 0 and now() >= due and 'EXPIRED' or 'GONE'
    return
  end
  local l = tonumber(string.match(value, '^%x+ (%d+) '))
  if l and l > last then last = l end
end
