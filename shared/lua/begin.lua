-- Start an attempt: count it and write its first event, which shuts earlier attempts out of the log.
-- KEYS  1 run record  2 events  3 lease
-- ARGV  1 owner token  2 worker id  3 the event  4 events' ttl (ms)  5 whether a turn is to follow: 1, or 0 to end the run
-- Gives {attempt, number of the event, request, reason to cancel or '', ms since it was submitted};
-- {} when the run is over or not ours
local record = redis.call('HMGET', KEYS[1], 'state', 'request', 'cancel', 'created', 'account', 'workers', 'begun_by', 'attempt')
if (record[1] ~= 'queued' and record[1] ~= 'running') or redis.call('GET', KEYS[3]) ~= ARGV[1] then return {} end
local now = now_ms()
if ARGV[5] == '1' and record[1] == 'running' and record[7] == ARGV[1] then -- said again: its answer was lost
  return {tonumber(record[8]), last_number(KEYS[2]), record[2], record[3] or '', now - record[4]}
end
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'running', 'worker', ARGV[2])
if ARGV[5] == '1' then
  redis.call('HSETNX', KEYS[1], 'begun', now)
  redis.call('HINCRBY', KEYS[1], 'starts', 1)
  redis.call('HINCRBY', KEYS[1], 'tries', 1)
  redis.call('HSET', KEYS[1], 'begun_by', ARGV[1])
  local workers = record[6] and record[6] .. ' ' .. ARGV[2] or ARGV[2]
  redis.call('HSET', KEYS[1], 'workers', string.sub(workers, -1000)) -- a run that drains give back has many
end
if record[5] then redis.call('ZREM', record[5] .. ':waiting', string.match(KEYS[3], '[^:]+$')) end
local n = append(KEYS[2], attempt, ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {attempt, n, record[2], record[3] or '', now - record[4]}
