-- The model's service has refused a run for now: let no worker with these credentials start another one, for
-- the time it asked for, or for twice the last one. Runs that were under way when it began do not add to it.
-- KEYS  1 pause
-- ARGV  1 time that was asked for (ms), or 0  2 first pause (ms)  3 longest one that nobody asked for (ms)
--       4 a random part of it to add, in thousandths
-- Gives how long the pause is from now (ms)
local now = now_ms()
local pause = redis.call('HMGET', KEYS[1], 'until', 'refusals', 'probing')
local ends, refusals = tonumber(pause[1] or 0), tonumber(pause[2] or 0)
local own = 0
if ends <= now or pause[3] == '1' then
  own = math.min(tonumber(ARGV[3]), ARGV[2] * 2 ^ math.min(refusals, 20))
  refusals = refusals + 1
  if pause[3] == '1' then ends = 0 end
end
local length = math.floor(math.max(tonumber(ARGV[1]), own) * (1 + ARGV[4] / 1000))
ends = math.max(ends, now + length)
redis.call('HSET', KEYS[1], 'until', ends, 'refusals', refusals, 'probing', 0)
redis.call('PEXPIRE', KEYS[1], ends - now + 60000)
return ends - now
