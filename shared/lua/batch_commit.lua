-- Results are in blobs now: note the blobs and the lines, and let the results go.
-- KEYS  1 batch record  2 results  3 done  4 parts
-- ARGV  1 epoch  2 ttl (ms)  3 bytes of the results  4 how many blobs, then their names; then lines
-- Gives 1 done | 0 refused
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local lines_from = 5 + ARGV[4]
for i = 5, lines_from - 1 do redis.call('RPUSH', KEYS[4], ARGV[i]) end
for i = lines_from, #ARGV do
  redis.call('SETBIT', KEYS[3], ARGV[i], 1)
  redis.call('HDEL', KEYS[2], ARGV[i])
end
redis.call('HINCRBY', KEYS[1], 'waiting', -ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
redis.call('PEXPIRE', KEYS[4], ARGV[2])
return 1
