-- Note that a run may be begun for a line: only by the newest taker. Of a batch that was cancelled, or whose
-- time is over, nothing new is begun from that moment on; what had been noted before may be looked for.
-- KEYS  1 batch record  2 flight
-- ARGV  1 epoch  2 run id  3 its line and agent  4 ttl (ms)
-- Gives 1 noted | 0 no more lines are to be begun | -1 refused: it is another's
local record = redis.call('HMGET', KEYS[1], 'epoch', 'status', 'expires')
if record[1] ~= ARGV[1] then return -1 end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 1 end
if record[2] ~= 'in_progress' or now_ms() >= tonumber(record[3]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
