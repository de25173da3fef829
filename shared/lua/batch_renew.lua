-- Keep a batch, or with a lease of 0 give it back; and hear what has become of it.
-- KEYS  1 batch record  2 open batches
-- ARGV  1 member of the open batches  2 epoch  3 lease (ms)
-- Gives {1 kept | 0 it is another's or over, status, now (ms), when it expires (ms)}
local record = redis.call('HMGET', KEYS[1], 'epoch', 'status', 'expires')
if record[1] ~= ARGV[2] or not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {0, '', 0, 0} end
local now = now_ms()
redis.call('ZADD', KEYS[2], 'XX', now + ARGV[3], ARGV[1])
return {1, record[2], now, tonumber(record[3])}
