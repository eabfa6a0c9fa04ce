-- missing says why there is no checkpoint where one was saved.
local function missing()
  local due = tonumber(string.match(saved, ' due=(%d+)$') or 0)
  return due > 0 and now() >= due and 'EXPIRED' or 'GONE'
end
