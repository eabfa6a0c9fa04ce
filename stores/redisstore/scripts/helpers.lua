-- now returns the server's clock in milliseconds.
now = function()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- stray returns an error if there is a record where there must be none. The last name
-- marked a fence of version 1.
stray = function()
  if saved then return end
  if redis.call('EXISTS', record) == 1 then
    return {'BAD', record, h[1] and 'was not written by this store' or 'has lost its fence (' .. fence .. '), which was deleted or evicted'}
  end
  if not h[1] and redis.call('EXISTS', record .. ':cp') == 1 then
    return {'BAD', fence, 'was deleted or evicted'}
  end
end
