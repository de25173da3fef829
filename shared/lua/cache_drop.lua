-- Forget answers of one tenant by their names; atomic, so that its sums are those of what is left.
-- KEYS  1 uses  2 ends  3 sizes, all in the field ''
-- ARGV  1 prefix of entries  2... names
-- Gives how many entries there were
local gone = 0
for i = 2, #ARGV do
  gone = gone + redis.call('UNLINK', ARGV[1] .. ARGV[i])
  redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i])
  local size = redis.call('HGET', KEYS[3], ARGV[i])
  if size then
    redis.call('HDEL', KEYS[3], ARGV[i])
    redis.call('HINCRBY', KEYS[3], '', -size)
  end
end
if redis.call('ZCARD', KEYS[1]) == 0 then redis.call('UNLINK', KEYS[2], KEYS[3]) end
return gone
