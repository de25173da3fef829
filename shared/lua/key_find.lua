-- Find the key that a secret's hash belongs to, and note that it was used: one look, one step.
-- KEYS  1 hashes  2 keys  3 uses
-- ARGV  1 hash  2 uses' ttl (ms)
-- Gives {now (ms), record or ''}
local now = now_ms()
local id = redis.call('HGET', KEYS[1], ARGV[1])
local record = id and redis.call('HGET', KEYS[2], id)
if not record then return {now, ''} end
redis.call('HSET', KEYS[3], id, now)
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return {now, record}
