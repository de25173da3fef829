-- Put a conversation into another session, which holds less of it; unless a turn has moved it on meanwhile.
-- KEYS  1 conversation record  2 tenant's conversations  3 new session's record  4 tenant's sessions
--       5 its sessions of the agent or project  6 added items
-- ARGV  1 ttl (ms)  2 conversation id  3 session and 4 head it was rewritten from
--       5 session and 6 head now, '' when nothing is left  7 prefix now (hash)
--       8 whether it ends as before: 1 or 0  9.. items that now wait for the next turn, each behind its id and a space
-- Gives 1 | 0 it has moved on, or is gone
local now, ttl = now_ms(), tonumber(ARGV[1])
local at = redis.call('HMGET', KEYS[1], 'session', 'head')
local is_moved = ARGV[3] ~= ARGV[5] or ARGV[4] ~= ARGV[6]
if is_moved and at[1] == ARGV[5] and at[2] == ARGV[6] then return 1 end -- said again: its answer was lost
if at[1] ~= ARGV[3] or at[2] ~= ARGV[4] then return 0 end
redis.call('HSET', KEYS[1], 'session', ARGV[5], 'head', ARGV[6], 'prefix', ARGV[7], 'updated', now)
redis.call('PEXPIRE', KEYS[1], ttl)
enlist(KEYS[2], ARGV[2], now, ttl)
if ARGV[8] == '0' then redis.call('HDEL', KEYS[1], 'calls') end -- nobody has to answer them now
for i = #ARGV, 9, -1 do redis.call('LPUSH', KEYS[6], ARGV[i]) end
redis.call('PEXPIRE', KEYS[6], ttl)
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[3], 'conversation', ARGV[2], unpack(redis.call('HGETALL', KEYS[1])))
  redis.call('HDEL', KEYS[3], 'metadata')
  redis.call('PEXPIRE', KEYS[3], ttl)
  enlist(KEYS[4], ARGV[5], now, ttl)
  enlist(KEYS[5], ARGV[5], now, ttl)
end
return 1
