-- Give a run back unfinished: the lease goes, and the run is due at once. Only its owner may.
-- A run whose record has lapsed meanwhile is forgotten instead, or it would be claimed for ever.
-- KEYS  1 lease  2 queue  3 start count  4 job body
-- ARGV  1 run id  2 owner token  3 doorbell channel  4 whether this start counts: 1 or 0
-- Gives 1 when it was given back, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('DEL', KEYS[3])
  return 1
end
if ARGV[4] == '0' and redis.call('EXISTS', KEYS[3]) == 1 then redis.call('DECR', KEYS[3]) end
redis.call('ZADD', KEYS[2], 'XX', now_ms(), ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1
