-- Store an object whole, new or in place of the old, and keep its place in the list: by its creation. With a
-- notice this is its end, which is told once however often it is stored. Or find the object that the same
-- request stored before, and store nothing.
-- KEYS  1 object  2 tenant's objects of the kind  3 the request's name (`shared/repeats.py`)
-- ARGV  1 longest ttl of the kind (ms)  2 id  3 '1': only if it is there | '0'  4 ttl (ms)
--       5 notice of an event (webhooks.lua), or ''  6 kind of repeat, '' for none  7 digest of what was asked
--       8 ttl of its name (ms)  9.. fields and values
-- Gives {1 done | 0 it is not there | 2 stored before | -1 refused: its key stands for something else, id}
local now, ttl, kind = now_ms(), tonumber(ARGV[1]), ARGV[6]
local is_other, known = object_before(KEYS[3], kind, ARGV[7], 'object')
if is_other then return {-1, ''} end
-- A client that did not name its request is not told that what it once made has been deleted.
if known and (kind == 'key' or redis.call('EXISTS', string.sub(KEYS[1], 1, -#ARGV[2] - 1) .. known) == 1) then
  return {2, known}
end
local created = redis.call('HGET', KEYS[1], 'created')
if ARGV[3] == '1' and not created then return {0, ''} end
remember_object(KEYS[3], kind, ARGV[7], ARGV[8], 'object', ARGV[2])
redis.call('HSET', KEYS[1], 'created', created or now, 'updated', now, unpack(ARGV, 9))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
enlist(KEYS[2], ARGV[2], created or now, ttl)
if ARGV[5] ~= '' and redis.call('HSETNX', KEYS[1], 'told', 1) == 1 then tell_webhooks(ARGV[5]) end
return {1, ARGV[2]}
