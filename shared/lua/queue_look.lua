-- How much waits, for how long, and what holds it: one look at all queues. Entries under way stand behind now
-- (claim.lua).
-- KEYS  queues
-- Gives {now (ms), then of each queue: waiting, ms that the oldest has waited, ms until its pause ends}
local now = now_ms()
local look = {now}
for _, queue in ipairs(KEYS) do
  local first, oldest = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES'), 0
  if first[2] then oldest = math.max(oldest, math.floor(now - tonumber(first[2]))) end
  look[#look + 1] = redis.call('ZCOUNT', queue, '-inf', now)
  look[#look + 1] = oldest
  look[#look + 1] = math.max(0, redis.call('PTTL', queue .. ':paused'))
end
return look
