-- move puts the record that is there under another seal, to expire at a time (0:
-- never). It returns an error if it did nothing.
local function move(to, at)
  local from = name(seal)
  if to ~= seal then
    local done = redis.pcall('RENAME', from, name(to))
    if done.err then return done end
  end
  local set = redis.pcall('HSET', fence, 'seal', to, 'due', at, 'last', last)
  if type(set) == 'table' then
    if to ~= seal then redis.call('RENAME', name(to), from) end
    return set
  end
  if at ~= 0 then
    redis.call('PEXPIREAT', name(to), at)
  elseif seal == OPEN then
    redis.call('PERSIST', name(to))
  end
end
