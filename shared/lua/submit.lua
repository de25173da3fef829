-- Accept a run: its record, job and queue entry appear together or not at all, and the doorbell rings.
-- Atomic, so that an acknowledged run cannot be lost and the queue's bound is exact. A full queue still takes
-- one run of a tenant that has none waiting in it: others fill it, and it may have its turn all the same. A
-- run whose conversation a live worker holds is offered to that worker first, unless others wait, and is due
-- for all a moment later.
-- A request that was made before finds its run, in the same step: no two copies of it can both start one, and
-- an API that dies right behind this has left nothing that is only half there.
-- KEYS  1 run record  2 job body  3 agent's queue  4 prefix  5 tenant's runs  6 all runs
--       7 what is known of the same request
-- ARGV  1 run id  2 request  3 job body  4 queue limit  5 record's ttl (ms)  6 agent's doorbell
--       7 prefix of worker records  8 prefix of own queues  9 prefix of own doorbells  10 head start (ms)
--       11 tenant  12 agent  13 how long it is kept after its end (ms), or ''
--       14 prefix of usage  15 prefix of run records  16 longest it may wait and run (ms)
--       17 how it may be found again: '' | 'key' | 'first' | 'retry' | 'beside' (a further choice of one that can be)
--       18 digest of what was asked  19 how long it can be found (ms); of a 'retry' after the run's end
--       20 conversation  21 tier
--       22 API key's id or ''  23 account  24 tokens it may need  25.. the key's limits,
--       then what else is known of the run, and the most runs of a list
-- Gives {1 accepted | 0 id exists | -1 queue full | -2 beyond a limit, now (ms), runs waiting before this one};
-- of a full queue also how long it takes to start a tenth of it (ms), or -1;
-- with a key also the limit's name or '', and the account's counters; or of a request that was made before
-- {2 its run, now, 0, run id, when created (ms), agent, conversation} | {-3 it asked for something else, now, 0}
-- | {-4 its run is no longer kept, now, 0}
local now = now_ms()
local waiting = redis.call('ZCOUNT', KEYS[3], '-inf', now)
if redis.call('EXISTS', KEYS[1]) == 1 then return {0, now, waiting} end -- said again: its answer was lost
local is_other, found = run_before(KEYS[7], ARGV[17], ARGV[18], tonumber(ARGV[19]), ARGV[15], now)
if is_other then return {-3, now, 0} end
if found then
  local run = redis.call('HMGET', ARGV[15] .. found, 'created', 'agent', 'conversation')
  if not run[1] then return {-4, now, 0} end
  redis.call('HINCRBY', ARGV[15] .. found, 'readers', 1)
  return {2, now, 0, found, tonumber(run[1]), run[2], run[3] or ''}
end
local tenant = redis.sha1hex(ARGV[11])
local function has_none_waiting()
  for tier = 0, 5 do
    if redis.call('EXISTS', KEYS[3] .. ':of:' .. tier .. ':' .. tenant) == 1 then return false end
  end
  return redis.call('EXISTS', KEYS[3] .. ':turns') == 1
end
if waiting >= tonumber(ARGV[4]) and not has_none_waiting() then
  local drain = drain_ms(KEYS[3], math.ceil(waiting / 10), now) or -1
  local paused = redis.call('PTTL', KEYS[3] .. ':paused')
  return {-1, now, waiting, math.ceil(math.max(drain, paused))}
end
local answer = {1, now, waiting}
if ARGV[22] ~= '' then
  local limits = {}
  for i = 25, #ARGV - 2 do limits[#limits + 1] = tonumber(ARGV[i]) end
  local refused, s = reserve(ARGV[23], now, ARGV[15], ARGV[1], tonumber(ARGV[24]), limits, tonumber(ARGV[16]))
  answer = {refused == '' and 1 or -2, now, waiting, refused, cjson.encode(s)}
  if refused ~= '' then return answer end
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'request', ARGV[2], 'created', now, 'attempt', 0, 'tries', 0, 'queue', KEYS[3],
  'tenant', ARGV[11], 'agent', ARGV[12], 'key', ARGV[22], 'usage', ARGV[14], 'tier', ARGV[21],
  'about', ARGV[#ARGV - 1])
if ARGV[13] ~= '' then redis.call('HSET', KEYS[1], 'keep', ARGV[13]) end
if ARGV[17] ~= '' then
  redis.call('HSET', KEYS[1], 'readers', 1, 'conversation', ARGV[20])
  remember(KEYS[7], ARGV[17], ARGV[18], ARGV[19], ARGV[1], now, ARGV[5])
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
list_run({KEYS[5], KEYS[6]}, ARGV[1], now, ARGV[5] + (tonumber(ARGV[13]) or 0), ARGV[15], tonumber(ARGV[#ARGV]))
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[5])
local worker = redis.call('HGET', KEYS[4], 'worker')
local is_busy = redis.call('EXISTS', KEYS[3] .. ':turns') == 1
if worker and not is_busy and redis.call('EXISTS', ARGV[7] .. worker) == 1 then
  redis.call('HSET', KEYS[1], 'offered', ARGV[8] .. worker)
  redis.call('ZADD', ARGV[8] .. worker, now, ARGV[1])
  redis.call('PEXPIRE', ARGV[8] .. worker, 60000)
  redis.call('ZADD', KEYS[3], now + ARGV[10], ARGV[1])
  redis.call('ZADD', KEYS[3] .. ':later', now + ARGV[10], ARGV[1])
  redis.call('PUBLISH', ARGV[9] .. worker, ARGV[1])
else
  redis.call('ZADD', KEYS[3], now, ARGV[1])
  enrol(KEYS[3], ARGV[1])
  redis.call('PUBLISH', ARGV[6], ARGV[1])
end
return answer
