-- Keep an answer within its tenant's bounds: lapsed entries leave the index, then the least recently used
-- go until there is room. Atomic, so that the sums are those of what is there.
-- KEYS  1 entry  2 uses  3 ends  4 sizes, all in the field ''
-- ARGV  1 name  2 answer  3 its size (bytes)  4 ttl (ms)  5 most entries  6 most bytes  7 prefix of entries
local now, ttl = now_ms(), tonumber(ARGV[4])

local function drop(name)
  redis.call('DEL', ARGV[7] .. name)
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
  local size = redis.call('HGET', KEYS[4], name)
  if size then
    redis.call('HDEL', KEYS[4], name)
    redis.call('HINCRBY', KEYS[4], '', -size)
  end
end

drop(ARGV[1])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1000)) do drop(name) end
while redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5])
    or tonumber(redis.call('HGET', KEYS[4], '') or 0) + ARGV[3] > tonumber(ARGV[6]) do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if not oldest then -- the sum is of an index that has lapsed in part: begin it anew
    redis.call('DEL', KEYS[3], KEYS[4])
    break
  end
  drop(oldest)
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ttl)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[3], now + ttl, ARGV[1])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
redis.call('HINCRBY', KEYS[4], '', ARGV[3])
for i = 2, 4 do
  if redis.call('PTTL', KEYS[i]) < ttl then redis.call('PEXPIRE', KEYS[i], ttl) end
end
return 1
