-- Give a run back unfinished: the lease goes, and the run is due at once, in its old place. Only its owner may.
-- A run whose record has lapsed meanwhile is forgotten instead, or it would be claimed for ever.
-- KEYS  1 lease  2 queue  3 start count  4 job body  5 run record
-- ARGV  1 run id  2 owner token  3 doorbell channel  4 whether this start counts: 1 or 0
--       5 whether it waits again as if it had not begun: 1 or 0
-- Gives 1 when it was given back, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[4]) == 0 then
  forget(KEYS[2], ARGV[1])
  redis.call('DEL', KEYS[3])
  return 1
end
if ARGV[4] == '0' then
  if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('DECR', KEYS[3]) end
  if redis.call('HGET', KEYS[5], 'begun_by') == ARGV[2] then
    redis.call('HINCRBY', KEYS[5], 'tries', -1)
    redis.call('HDEL', KEYS[5], 'begun_by')
  end
end
if ARGV[5] == '1' and redis.call('HGET', KEYS[5], 'state') == 'running' then
  redis.call('HSET', KEYS[5], 'state', 'queued')
  redis.call('HDEL', KEYS[5], 'worker')
  redis.call('HINCRBY', KEYS[5], 'starts', -1)
end
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZADD', KEYS[2], now_ms(), ARGV[1])
  enrol(KEYS[2], ARGV[1])
end
redis.call('PUBLISH', ARGV[3], ARGV[1])
return 1
