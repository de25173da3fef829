-- Accept a batch: its record, its place in the tenant's list, and among those to be seen to, at once.
-- KEYS  1 batch record  2 tenant's batches  3 open batches
-- ARGV  1 ttl (ms)  2 batch id  3 member of the open batches  4 how long it may take (ms)  5.. fields and values
-- Gives now (ms)
local now, ttl = now_ms(), tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'created', now, 'status', 'validating', 'epoch', 0, 'expires', now + ARGV[4],
  'total', 0, 'completed', 0, 'failed', 0, unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ttl)
enlist(KEYS[2], ARGV[2], now, ttl)
redis.call('ZADD', KEYS[3], now, ARGV[3])
redis.call('PEXPIRE', KEYS[3], ttl)
return now
