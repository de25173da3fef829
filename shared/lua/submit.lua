-- Accept a run: its record, ARQ's job and the queue entry appear together or not at all, and the doorbell
-- rings. Atomic, so that an acknowledged run cannot be lost and the queue's bound is exact.
-- The due time is Redis's clock, never a host's.
-- KEYS  1 run record  2 job body  3 queue
-- ARGV  1 run id  2 request  3 job body  4 queue limit  5 record's ttl (ms)  6 doorbell channel
-- Gives {1 accepted | 0 id exists | -1 queue full, now (ms), runs waiting before this one}
local now = now_ms()
local waiting = redis.call('ZCOUNT', KEYS[3], '-inf', now)
if redis.call('EXISTS', KEYS[1]) == 1 then return {0, now, waiting} end
if waiting >= tonumber(ARGV[4]) then return {-1, now, waiting} end
redis.call('HSET', KEYS[1], 'state', 'queued', 'request', ARGV[2], 'created', now, 'attempt', 0, 'queue', KEYS[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[5])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('PUBLISH', ARGV[6], ARGV[1])
return {1, now, waiting}
