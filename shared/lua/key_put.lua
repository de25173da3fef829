-- Put a key's record in place of the one its writer had read, with the hashes that lead to it, and tell all
-- replicas. Atomic, so that of a rotation and a revocation at the same time none is undone by the other.
-- KEYS  1 keys  2 hashes
-- ARGV  1 id  2 record that was read, '' for none  3 record  4 channel  5 how many hashes go, then these,
--       then those that lead to it
-- Gives 1 when it was put, 0 when another record stands there
local stands = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if stands == ARGV[3] then return 1 end -- said again: its answer was lost
if stands ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
local gone = tonumber(ARGV[5])
for i = 6, 5 + gone do redis.call('HDEL', KEYS[2], ARGV[i]) end
for i = 6 + gone, #ARGV do redis.call('HSET', KEYS[2], ARGV[i], ARGV[1]) end
redis.call('PUBLISH', ARGV[4], ARGV[1])
return 1
