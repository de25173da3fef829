-- A circuit breaker that all workers share: closed, open after so many failures in a window, and then half
-- open, when one run may try. Atomic, so that failures are counted once and only one run is the probe.
-- KEYS  1 breaker: 'failures' since 'since', and once open 'until' and the deadline of a 'probe'
-- ARGV  1 ask | good | bad | neither  2 whether it was the probe (0 or 1)
--       3 failures that open it  4 window (ms)  5 how long it is open (ms)
-- ask gives {1 go | 2 go, as the probe | 0 do not, ms until it is worth asking again}
-- the others give {1 it has just opened | 2 it has just closed | 0, 0}
local now = now_ms()
local b = redis.call('HMGET', KEYS[1], 'failures', 'since', 'until', 'probe')
local open_until, probe = tonumber(b[3] or 0), tonumber(b[4] or 0)
local open_ms = tonumber(ARGV[5])

local function open()
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'until', now + open_ms)
  redis.call('PEXPIRE', KEYS[1], open_ms + 3600000) -- nobody asks for an hour: closed
  return {1, 0}
end

if ARGV[1] == 'ask' then
  if open_until == 0 then return {1, 0} end
  local free_at = math.max(open_until, probe)
  if now < free_at then return {0, free_at - now} end
  redis.call('HSET', KEYS[1], 'probe', now + open_ms) -- a probe that is lost with its worker blocks no longer
  return {2, 0}
end
if ARGV[2] == '1' then
  if ARGV[1] == 'bad' then return open() end
  if ARGV[1] == 'neither' then redis.call('HDEL', KEYS[1], 'probe') return {0, 0} end
  redis.call('DEL', KEYS[1])
  return {open_until > 0 and 2 or 0, 0}
end
if ARGV[1] ~= 'bad' or open_until > 0 then return {0, 0} end -- begun before it opened
local failures, since = tonumber(b[1] or 0) + 1, tonumber(b[2] or 0)
if now - since > tonumber(ARGV[4]) then failures, since = 1, now end
if failures >= tonumber(ARGV[3]) then return open() end
redis.call('HSET', KEYS[1], 'failures', failures, 'since', since)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {0, 0}
