-- Delete an endpoint and all that waits for it.
-- KEYS  1 tenant's endpoints  2 open endpoints  3 queue  4 deliveries  5 shown  6 flight
-- ARGV  1 id  2 member of the open endpoints
-- Gives 1 | 0 there is no such endpoint
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
return redis.call('HDEL', KEYS[1], ARGV[1])
