-- Where there is no fence, there must be nothing.
if not h[1] then
  local size = redis.pcall('STRLEN', mark)
  if type(size) == 'table' then return size end
  if size > 0 then return {'BAD', fence, 'is gone, and the mark that there was one is not'} end
end
