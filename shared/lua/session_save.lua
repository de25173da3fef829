-- Note where a conversation now is, in one step: in the index, in its session's record, and in the record of
-- the conversation it was asked for by, if it is still where this turn went on from. Of two turns that went
-- on from one place the first to end continues the conversation; the other is a session of its own.
-- KEYS  1 prefix before  2 prefix now  3 session record  4 tenant's sessions  5 its sessions of the agent
--       6 conversation record  7 tenant's conversations  8 items added to the conversation
-- ARGV  1 ttl (ms)  2 worker id, '' when nobody has it live  3 session id  4 head, '' when it is not stored  5 prefix now (hash)
--       6 cost in USD  7 conversation id or ''  8 session and 9 head this turn went on from, or ''
--       10 ids of the added items this turn has told, each before a space  11.. fields and values that both
--       records have
-- Gives 1 saved | 0 the session or the conversation has been deleted: nothing was written
local now, ttl, conversation = now_ms(), tonumber(ARGV[1]), ARGV[7]
if redis.call('HGET', KEYS[1], 'worker') == ARGV[2] then redis.call('HDEL', KEYS[1], 'worker') end
if redis.call('HEXISTS', KEYS[3], 'gone') == 1 then return 0 end
if conversation ~= '' and redis.call('EXISTS', KEYS[6]) == 0 then return 0 end

if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], 'worker', ARGV[2]) end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], 'session', ARGV[3], 'head', ARGV[4]) end
redis.call('PEXPIRE', KEYS[2], ttl)

local function advance(record, list, id)
  local was = redis.call('HMGET', record, 'prefix', 'head')
  if was[1] ~= ARGV[5] or was[2] ~= ARGV[4] then  -- else this very call has been made before
    redis.call('HINCRBY', record, 'turns', 1)
    redis.call('HINCRBYFLOAT', record, 'cost', ARGV[6])
  end
  redis.call('HSETNX', record, 'created', now)
  redis.call('HSET', record, 'updated', now, 'session', ARGV[3], 'head', ARGV[4], 'prefix', ARGV[5], unpack(ARGV, 11))
  redis.call('PEXPIRE', record, ttl)
  enlist(list, id, now, ttl)
end

-- They are the conversation's now; those added since wait for its next turn.
local function take_items()
  local told = ' ' .. ARGV[10]
  for _, item in ipairs(redis.call('LRANGE', KEYS[8], 0, -1)) do
    local id = string.match(item, '^%S+')
    if string.find(told, ' ' .. id .. ' ', 1, true) then redis.call('LREM', KEYS[8], 1, item) end
  end
  redis.call('PEXPIRE', KEYS[8], ttl)
end

advance(KEYS[3], KEYS[4], ARGV[3])
enlist(KEYS[5], ARGV[3], now, ttl)
if conversation ~= '' then
  local at = redis.call('HMGET', KEYS[6], 'session', 'head')
  local is_unmoved = (at[1] or '') == ARGV[8] and (at[2] or '') == ARGV[9]
  if is_unmoved or (at[1] == ARGV[3] and at[2] == ARGV[4]) then
    advance(KEYS[6], KEYS[7], conversation)
    take_items()
    redis.call('HSET', KEYS[3], 'conversation', conversation)
  end
end
return 1
