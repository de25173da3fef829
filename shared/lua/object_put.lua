-- Store an object whole, new or in place of the old, and keep its place in the list: by its creation. With a
-- notice this is its end, which is told once however often it is stored.
-- KEYS  1 object  2 tenant's objects of the kind
-- ARGV  1 longest ttl of the kind (ms)  2 id  3 '1': only if it is there | '0'  4 ttl (ms)
--       5 notice of an event (webhooks.lua), or ''  6.. fields and values
-- Gives 1 done | 0 it is not there
local now, ttl = now_ms(), tonumber(ARGV[1])
local created = redis.call('HGET', KEYS[1], 'created')
if ARGV[3] == '1' and not created then return 0 end
redis.call('HSET', KEYS[1], 'created', created or now, 'updated', now, unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
enlist(KEYS[2], ARGV[2], created or now, ttl)
if ARGV[5] ~= '' and redis.call('HSETNX', KEYS[1], 'told', 1) == 1 then tell_webhooks(ARGV[5]) end
return 1
