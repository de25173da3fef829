-- Note what became of a try, and when the next one is due; unless the endpoint was deleted meanwhile.
-- KEYS  1 open endpoints  2 queue  3 deliveries  4 shown  5 flight
-- ARGV  1 member of the open endpoints  2 event id  3 delivery  4 next try in (ms) | -1 it is over
--       5 ttl (ms)
-- Gives 1 noted | 0 it is gone
redis.call('ZREM', KEYS[5], ARGV[2])
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return 0 end
local wait = tonumber(ARGV[4])
if wait < 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
else
  redis.call('ZADD', KEYS[2], now_ms() + wait, ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
if wait < 0 and not redis.call('ZSCORE', KEYS[4], ARGV[2]) then
  redis.call('HDEL', KEYS[3], ARGV[2]) -- too old to be shown
else
  redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
end
for i = 3, 4 do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if first[2] then
  redis.call('ZADD', KEYS[1], first[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 1
