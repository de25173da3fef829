-- Begin a conversation's record: it appears whole, with its time to live, and in its tenant's list.
-- KEYS  1 conversation record  2 tenant's conversations
-- ARGV  1 ttl (ms)  2 conversation id  3.. fields and values
-- Gives now (ms)
local now, ttl = now_ms(), tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'created', now, 'updated', now, 'turns', 0, unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ttl)
enlist(KEYS[2], ARGV[2], now, ttl)
return now
