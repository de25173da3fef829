-- Accept a run: its record, job and queue entry appear together or not at all, and the doorbell rings.
-- Atomic, so that an acknowledged run cannot be lost and the queue's bound is exact. A run whose
-- conversation a live worker holds is offered to that worker first, and is due for all a moment later.
-- KEYS  1 run record  2 job body  3 agent's queue  4 prefix  5 tenant's runs  6 all runs
-- ARGV  1 run id  2 request  3 job body  4 queue limit  5 record's ttl (ms)  6 agent's doorbell
--       7 prefix of worker records  8 prefix of own queues  9 prefix of own doorbells  10 head start (ms)
--       11 tenant  12 agent  13 how long it is kept after its end (ms), or ''
--       14 prefix of usage  15 prefix of run records  16 longest it may wait and run (ms)
--       17 API key's id or ''  18 account  19 tokens it may need  20.. the key's limits,
--       then what else is known of the run, and the most runs of a list
-- Gives {1 accepted | 0 id exists | -1 queue full | -2 beyond a limit, now (ms), runs waiting before this one};
-- with a key also the limit's name or '', and the account's counters
local now = now_ms()
local waiting = redis.call('ZCOUNT', KEYS[3], '-inf', now)
if redis.call('EXISTS', KEYS[1]) == 1 then return {0, now, waiting} end
if waiting >= tonumber(ARGV[4]) then return {-1, now, waiting} end
local answer = {1, now, waiting}
if ARGV[17] ~= '' then
  local limits = {}
  for i = 20, #ARGV - 2 do limits[#limits + 1] = tonumber(ARGV[i]) end
  local refused, s = reserve(ARGV[18], now, ARGV[15], ARGV[1], tonumber(ARGV[19]), limits, tonumber(ARGV[16]))
  answer = {refused == '' and 1 or -2, now, waiting, refused, cjson.encode(s)}
  if refused ~= '' then return answer end
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'request', ARGV[2], 'created', now, 'attempt', 0, 'queue', KEYS[3],
  'tenant', ARGV[11], 'agent', ARGV[12], 'key', ARGV[17], 'usage', ARGV[14], 'about', ARGV[#ARGV - 1])
if ARGV[13] ~= '' then redis.call('HSET', KEYS[1], 'keep', ARGV[13]) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
list_run({KEYS[5], KEYS[6]}, ARGV[1], now, ARGV[5] + (tonumber(ARGV[13]) or 0), ARGV[15], tonumber(ARGV[#ARGV]))
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[5])
local worker = redis.call('HGET', KEYS[4], 'worker')
if worker and redis.call('EXISTS', ARGV[7] .. worker) == 1 then
  redis.call('HSET', KEYS[1], 'offered', ARGV[8] .. worker)
  redis.call('ZADD', ARGV[8] .. worker, now, ARGV[1])
  redis.call('PEXPIRE', ARGV[8] .. worker, 60000)
  redis.call('ZADD', KEYS[3], now + ARGV[10], ARGV[1])
  redis.call('PUBLISH', ARGV[9] .. worker, ARGV[1])
else
  redis.call('ZADD', KEYS[3], now, ARGV[1])
  redis.call('PUBLISH', ARGV[6], ARGV[1])
end
return answer
