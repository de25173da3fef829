-- A page of a list of runs, and the end of what has lapsed: ids whose record is gone leave the list.
-- Both is bounded, for Redis does nothing else meanwhile.
-- KEYS  1 the list
-- ARGV  1 prefix of run records  2 id beyond which to begin, or ''  3 when it was submitted (ms), in case it
--       has left the list  4 'after' older ones follow, newest first | 'before' newer ones, oldest first
--       5 most runs  6 most to look at, and to sweep out
--       7 state, 8 agent, 9 key they must have, or ''  10.. the fields to give, of which the first are these
-- Gives {1 there may be more | 0, id last looked at or '', id, {value, ..}, id, ..}
local is_before = ARGV[4] == 'before'
local at = 0
if ARGV[2] ~= '' then
  local rank = redis.call(is_before and 'ZRANK' or 'ZREVRANK', KEYS[1], ARGV[2])
  if rank then at = rank + 1
  elseif is_before then at = redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[3])
  else at = redis.call('ZCOUNT', KEYS[1], ARGV[3], '+inf') end
end
local most, looked, swept, found = tonumber(ARGV[5]), 0, 0, 0
local answer = {0, ''}
while true do
  local ids = redis.call(is_before and 'ZRANGE' or 'ZREVRANGE', KEYS[1], at, at + 99)
  if #ids == 0 then return answer end
  for _, id in ipairs(ids) do
    if found == most or looked == tonumber(ARGV[6]) or swept == tonumber(ARGV[6]) then
      answer[1] = 1
      return answer
    end
    local record = redis.call('HMGET', ARGV[1] .. id, unpack(ARGV, 10))
    if not record[1] then
      redis.call('ZREM', KEYS[1], id)
      swept = swept + 1
    else
      at, looked, answer[2] = at + 1, looked + 1, id
      local fits = true
      for i = 1, 3 do fits = fits and (ARGV[6 + i] == '' or record[i] == ARGV[6 + i]) end
      if fits then
        found = found + 1
        answer[#answer + 1] = id
        answer[#answer + 1] = record
      end
    end
  end
end
