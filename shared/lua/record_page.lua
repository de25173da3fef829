-- A page of a list of records, and the end of what has lapsed: ids whose record is gone leave the list.
-- KEYS  1 the list
-- ARGV  1 prefix of the records  2 id after which to begin, or ''  3 most records
--       4 'desc' newest first | 'asc'  5 ttl (ms)
-- Gives {1, id, {field, value, ..}, id, ..}; {0} when the id to begin after is not in the list
local newest_first = ARGV[4] == 'desc'
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms() - ARGV[5])
local at = 0
if ARGV[2] ~= '' then
  local rank = redis.call(newest_first and 'ZREVRANK' or 'ZRANK', KEYS[1], ARGV[2])
  if not rank then return {0} end
  at = rank + 1
end
local answer, missing = {1}, tonumber(ARGV[3])
while missing > 0 do
  local ids = redis.call(newest_first and 'ZREVRANGE' or 'ZRANGE', KEYS[1], at, at + missing - 1)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local record = redis.call('HGETALL', ARGV[1] .. id)
    if #record == 0 then
      redis.call('ZREM', KEYS[1], id)
    else
      at, missing = at + 1, missing - 1
      answer[#answer + 1] = id
      answer[#answer + 1] = record
    end
  end
end
return answer
