-- read returns what was found (OK, NONE, EXPIRED) and the record, or an error.
local function read()
  if not saved then
    local err = stray()
    if err then return nil, nil, err end
    return 'NONE', ''
  end
  local value = redis.pcall('GET', record)
  if type(value) == 'table' then return nil, nil, value end
  if value then return 'OK', value end
  if due > 0 and now() >= due then return 'EXPIRED', '' end
  return nil, nil, {'GONE'}
end
