-- Follows the script of one key as the function one, and n, the number of its arguments.
-- The reply has one for each key.
local out = {}
for i = 1, #KEYS / 2 do
  out[i] = one({KEYS[2 * i - 1], KEYS[2 * i]}, {unpack(ARGV, n * (i - 1) + 1, n * i)})
end
return out
