-- How much waits, and for how long: one look at all queues. Entries under way stand behind now (claim.lua).
-- KEYS  queues
-- Gives {now (ms), waiting, ms that the oldest has waited}
local now, waiting, oldest = now_ms(), 0, 0
for _, queue in ipairs(KEYS) do
  waiting = waiting + redis.call('ZCOUNT', queue, '-inf', now)
  local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  if first[2] then oldest = math.max(oldest, math.floor(now - tonumber(first[2]))) end
end
return {now, waiting, oldest}
