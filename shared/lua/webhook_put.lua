-- Put an endpoint's record in place of the one its writer had read, or a new one within the tenant's bound.
-- KEYS  1 tenant's endpoints
-- ARGV  1 id  2 record that was read, '' for none  3 record  4 most endpoints
-- Gives 1 done | 0 another record stands there | -1 too many
local old = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if old == ARGV[3] then return 1 end -- said again: its answer was lost
if old ~= ARGV[2] then return 0 end
if old == '' and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return -1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
