-- A worker says it lives and what it serves; records that lapsed are swept.
-- KEYS  1 worker's record  2 workers  3 agents  4 what it tells of its agents
-- ARGV  1 worker id  2 record  3 ttl (ms)  4 agents' ttl (ms)  5 what it tells, '' for what it told before,
--       then pairs of agent name and record
-- Gives 1 when what it tells is known, 0 when it must be said again
local now = now_ms()
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if #ARGV > 5 then
  redis.call('HSET', KEYS[3], unpack(ARGV, 6))
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
if ARGV[5] == '' then return redis.call('PEXPIRE', KEYS[4], ARGV[3]) end
redis.call('SET', KEYS[4], ARGV[5], 'PX', ARGV[3])
return 1
