-- Take or keep the right to sample: among all API processes one has it at a time.
-- KEYS  1 the holder
-- ARGV  1 who asks  2 for how long (ms)
-- Gives 1 when it is the one who asks, else 0
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
