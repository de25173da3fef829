-- Who lives and what is known: one consistent look.
-- KEYS  1 workers  2 agents
-- ARGV  1 prefix of worker records
-- Gives {records of live workers, {name, record, …} of every agent announced}
local now = now_ms()
local workers = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local record = redis.call('GET', ARGV[1] .. id)
  if record then workers[#workers + 1] = record end
end
return {workers, redis.call('HGETALL', KEYS[2])}
