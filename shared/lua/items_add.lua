-- Add items to a conversation, for its next turn: all or none, within the bounds, and only while it is there.
-- KEYS  1 conversation record  2 tenant's conversations  3 added items
-- ARGV  1 ttl (ms)  2 conversation id  3 most items  4 most bytes, then the items, each behind its id and a space
-- Gives 1 added | 0 there is no such conversation | -1 too much
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local now, ttl = now_ms(), tonumber(ARGV[1])
local count, bytes = #ARGV - 4, 0
for _, item in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
  if item == ARGV[5] then return 1 end -- said again: its answer was lost; ids are random
  count, bytes = count + 1, bytes + #item
end
for i = 5, #ARGV do bytes = bytes + #ARGV[i] end
if count > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4]) then return -1 end
redis.call('RPUSH', KEYS[3], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[3], ttl)
redis.call('HSET', KEYS[1], 'updated', now)
redis.call('PEXPIRE', KEYS[1], ttl)
enlist(KEYS[2], ARGV[2], now, ttl)
return 1
