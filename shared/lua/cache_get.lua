-- Read a cached answer and note its use; what has lapsed leaves the index too.
-- KEYS  1 entry  2 uses  3 ends  4 sizes, all in the field ''
-- ARGV  1 name
-- Gives the entry, or false
local data = redis.call('GET', KEYS[1])
if data then
  redis.call('ZADD', KEYS[2], 'XX', now_ms(), ARGV[1])
  return data
end
local size = redis.call('HGET', KEYS[4], ARGV[1])
if size then
  redis.call('HDEL', KEYS[4], ARGV[1])
  redis.call('HINCRBY', KEYS[4], '', -size)
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
end
return false
