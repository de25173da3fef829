-- Begin a project's record, unless its tenant has as many as it may: counted and made in one step.
-- KEYS  1 project record  2 tenant's projects
-- ARGV  1 ttl (ms)  2 project id  3 most projects  4 prefix of the tenant's records  5.. fields and values
-- Gives now (ms) | -1 too many
local now, made = now_ms(), redis.call('HGET', KEYS[1], 'created')
if made then return tonumber(made) end -- said again: its answer was lost
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do -- some may have lapsed
    if redis.call('EXISTS', ARGV[4] .. id) == 0 then redis.call('ZREM', KEYS[2], id) end
  end
  if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return -1 end
end
redis.call('HSET', KEYS[1], 'created', now, 'state', 'creating', unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], now, ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return now
