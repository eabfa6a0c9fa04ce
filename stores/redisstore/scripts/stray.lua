-- Where nothing was saved, what lies there is not ours.
if not saved then
  local size = redis.pcall('STRLEN', record)
  if type(size) == 'table' then return size end
  if size > 0 then
    if not h[1] then return {'BAD', fence, 'is gone, and the checkpoint that it belongs to is not'} end
    return {'BAD', record, 'holds what no save has put there'}
  end
end
