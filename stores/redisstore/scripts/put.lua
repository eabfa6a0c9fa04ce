-- complete makes a record of a document, '' for none.
local function complete(document)
  local text = string.format('%.0f %.0f ', last, epoch) .. document
  return redis.sha1hex(text) .. ' ' .. text
end

-- put writes a record under a seal, to expire at a time (0: never), and takes away
-- the one under the seal before: who has that seal writes no more. It returns an
-- error if it did nothing. The server refuses a script's first write (no memory, a
-- replica) or none; only a right may be missing later.
local function put(text, to, at)
  local set
  if at == 0 then
    set = redis.pcall('SET', name(to), text)
  else -- GET has it refuse what is no string
    set = redis.pcall('SET', name(to), text, 'PXAT', at, 'GET')
  end
  if type(set) == 'table' and set.err then return set end
  set = redis.pcall('HSET', fence, 'version', 1, 'epoch', epoch, 'seal', to, 'due', at, 'last', last)
  if type(set) == 'table' then
    if to ~= seal then redis.call('DEL', name(to)) end
    return set
  end
  if seal and seal ~= to then redis.call('DEL', name(seal)) end
  if ousts then redis.call('HDEL', fence, 'nonce', 'owner', 'until') end
  if not h[1] then redis.call('SET', mark, 1) end
end
