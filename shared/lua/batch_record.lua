-- Note what a line gave, once, and count it in the same step. Results are taken until they are gathered.
-- KEYS  1 batch record  2 results  3 done  4 flight
-- ARGV  1 epoch  2 line  3 result  4 'completed' | 'failed'  5 ttl (ms)
--       6 how many counters, then their names and numbers; then ids of the line's runs
-- Gives {1 noted | 0 it was already | -1 refused, bytes of results that wait to be gathered}
local record = redis.call('HMGET', KEYS[1], 'epoch', 'gathering')
if record[1] ~= ARGV[1] or record[2] then return {-1, 0} end
local after = 6 + 2 * ARGV[6]
if #ARGV > after then redis.call('HDEL', KEYS[4], unpack(ARGV, after + 1)) end
if redis.call('GETBIT', KEYS[3], ARGV[2]) == 1 or redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then
  return {0, tonumber(redis.call('HGET', KEYS[1], 'waiting') or 0)}
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('HINCRBY', KEYS[1], ARGV[4], 1)
for i = 7, after, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
return {1, redis.call('HINCRBY', KEYS[1], 'waiting', #ARGV[3])}
