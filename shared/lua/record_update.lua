-- Set a field of a conversation's record, unless it has lapsed: a record is never begun anew by half.
-- KEYS  1 conversation record  2 tenant's conversations
-- ARGV  1 ttl (ms)  2 conversation id  3 field  4 value
-- Gives 1 done | 0 there is no such record
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local now, ttl = now_ms(), tonumber(ARGV[1])
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4], 'updated', now)
redis.call('PEXPIRE', KEYS[1], ttl)
enlist(KEYS[2], ARGV[2], now, ttl)
return 1
