-- Follows save as the function one. The reply has one of save's for each key.
local out = {}
for i = 1, #KEYS / 2 do
  out[i] = one({KEYS[2 * i - 1], KEYS[2 * i]}, {unpack(ARGV, 6 * i - 5, 6 * i)})
end
return out
