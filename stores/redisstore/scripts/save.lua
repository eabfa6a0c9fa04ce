-- ARGV after those: the record, '1' if that is only its document and the rest is to
-- be filled in, time to live, sequence, how long the document is up to the end of
-- its token, seal.
-- The answer OK: epoch, last sequence.
local text, sequence, at = ARGV[4], tonumber(ARGV[7]), 0
if h[1] and (seal ~= OPEN or sequence ~= 0 and sequence <= last) then
  local err = read()
  if err then return err end
  if missing == 'GONE' and not sure then return {'GONE', name(seal)} end
end
if sequence ~= 0 and sequence <= last then
  if sequence < last then return {'STALE', last} end
  -- A repeated save is success, provided it can be seen to be one.
  local function document(s) return string.sub(s, string.find(s, '{', 1, true) or #s + 1, -1) end
  local was, is, token = document(value or ''), document(text), tonumber(ARGV[8])
  local rest = string.gsub(string.sub(was, token + 1, -1), '^,"startAfter":true', '')
  rest = string.gsub(rest, '^,"clusterTime":{"t":%d+,"i":%d+}', '')
  if string.sub(was, 1, token) ~= string.sub(is, 1, token) or string.match(rest, '^,"sequence":(%d+)') ~= ARGV[7] then
    return {'USED'}
  end
end
if sequence ~= 0 then last = sequence end
if ARGV[5] == '1' then text = complete(text) end
if ARGV[6] ~= '0' then at = now() + ARGV[6] end
return put(text, at == 0 and ARGV[9] or OPEN, at) or {'OK', epoch, last}
