-- Note what a line gave, once, and count it in the same step. Results are taken until they are gathered.
-- KEYS  1 batch record  2 results  3 done  4 flight
-- The line's runs need not be found any more: from now on they are kept as long as any other.
-- ARGV  1 epoch  2 line  3 result  4 'completed' | 'failed'  5 ttl (ms)  6 prefix of run records
--       7 prefix of events  8 how long a run is kept after its end (ms)
--       9 how many counters, then their names and numbers; then ids of the line's runs
-- Gives {1 noted | 0 it was already | -1 refused, bytes of results that wait to be gathered}
local record = redis.call('HMGET', KEYS[1], 'epoch', 'gathering')
if record[1] ~= ARGV[1] or record[2] then return {-1, 0} end
local after = 9 + 2 * ARGV[9]
for i = after + 1, #ARGV do
  local run = ARGV[6] .. ARGV[i]
  redis.call('HDEL', KEYS[4], ARGV[i])
  if redis.call('HDEL', run, 'keep') == 1 and redis.call('HEXISTS', run, 'ended') == 1 then
    redis.call('PEXPIRE', run, ARGV[8])
    redis.call('PEXPIRE', ARGV[7] .. ARGV[i], ARGV[8])
  end
end
if redis.call('GETBIT', KEYS[3], ARGV[2]) == 1 or redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then
  return {0, tonumber(redis.call('HGET', KEYS[1], 'waiting') or 0)}
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('HINCRBY', KEYS[1], ARGV[4], 1)
for i = 10, after, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
return {1, redis.call('HINCRBY', KEYS[1], 'waiting', #ARGV[3])}
