-- A worker says it lives and what it serves; records that lapsed are swept.
-- KEYS  1 worker's record  2 workers  3 agents
-- ARGV  1 worker id  2 record  3 ttl (ms)  4 agents' ttl (ms), then pairs of agent name and record
local now = now_ms()
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if #ARGV > 4 then
  redis.call('HSET', KEYS[3], unpack(ARGV, 5))
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
return now
