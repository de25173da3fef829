-- End a run that was started again and again without an end, and keep its request as a dead letter. One
-- step, so that what an operator is to look at is neither lost nor still under way.
-- KEYS  1 run record  2 events  3 queue  4 job body  5 lease  6 start count  7 letter  8 its request  9 all letters
-- ARGV  1 run id  2 attempt  3 terminal state  4 terminal event  5 retention (ms)  6 what it used
--       7 letter's ttl (ms)  8 reason  9 what its CLI wrote last  10 most letters
--       11 prefix of letters  12 prefix of their requests
-- Gives 1 when this call ended the run, else 0
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'request')
if record[1] ~= 'running' or record[2] ~= ARGV[2] then return 0 end
local now, ttl = now_ms(), tonumber(ARGV[7])
redis.call('HSET', KEYS[7], 'reason', ARGV[8], 'stderr', ARGV[9], 'end', ARGV[4], 'buried', now)
for _, name in ipairs({'agent', 'tenant', 'key', 'created', 'starts', 'workers', 'about'}) do
  redis.call('HSET', KEYS[7], name, redis.call('HGET', KEYS[1], name) or '')
end
redis.call('PEXPIRE', KEYS[7], ttl)
redis.call('SET', KEYS[8], record[3] or '', 'PX', ttl)
enlist(KEYS[9], ARGV[1], now, ttl)
for _, id in ipairs(redis.call('ZRANGE', KEYS[9], 0, -1 - ARGV[10])) do
  redis.call('UNLINK', ARGV[11] .. id, ARGV[12] .. id)
  redis.call('ZREM', KEYS[9], id)
end
end_run(KEYS, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
