-- Stop a run from outside. Nobody has it (waiting, or its worker is lost): it ends here, as a new attempt,
-- so that a lost worker that wakes can write nothing. A worker has it: the wish is noted and told.
-- KEYS  1 run record  2 events  3 agent's queue (one in a project waits in the queue its record names)  4 job body  5 lease  6 start count
-- ARGV  1 run id  2 terminal state  3 terminal event  4 retention (ms)  5 reason  6 prefix of control channels
--       7 what it used  8 '1': only if nobody reads it; then its answer is no longer one | '0'
--       9 record of the run with whose answer it goes
-- Gives 1 ended here | 2 its worker was told | 0 it was over already | -1 unknown run
local record = redis.call('HMGET', KEYS[1], 'state', 'worker', 'queue')
if not record[1] then return -1 end
if record[1] ~= 'queued' and record[1] ~= 'running' then return 0 end
if ARGV[8] == '1' then
  if tonumber(redis.call('HGET', KEYS[1], 'readers') or 0) > 0 then return 0 end
  redis.call('HSET', KEYS[1], 'let_go', 1)
  if redis.call('EXISTS', ARGV[9]) == 1 then redis.call('HSET', ARGV[9], 'let_go', 1) end
end
if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('HSET', KEYS[1], 'cancel', ARGV[5])
  if record[2] then redis.call('PUBLISH', ARGV[6] .. record[2], ARGV[1]) end
  return 2
end
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HDEL', KEYS[1], 'worker') -- if it wakes, its renewal shall say that the run is lost
end_run({KEYS[1], KEYS[2], record[3] or KEYS[3], KEYS[4], KEYS[5], KEYS[6]}, ARGV[1], attempt, ARGV[2], ARGV[3], ARGV[4], ARGV[7])
return 1
