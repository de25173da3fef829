-- Push one chunk of entries, whole or not at all. The check of uuids and the push are one step, so that two
-- processes that mirror the same entries store them once: the writer says which entries its chunk holds and
-- which it left out as known; when that is not (any more) so, it is told what is and packs again.
-- A refusal closes the transcript for good: a later, smaller append would leave a hole in the conversation.
-- KEYS  1 chunks  2 index  3 session's subpaths  4 project's mtimes  5 project's expiries
-- ARGV  1 prefix of the session's names  2 session  3 subpath or ''  4 ttl (ms)  5 bound (bytes)  6 chunk
--       7 mark of this call or ''  8 digests of the uuids in the chunk  9 digests of those left out
-- Gives {1 stored, chunks that may be packed, their bytes, chunks before them}
--     | {0 pack again, digests that are known} | {-1 too large, bytes held}
local DIGEST = 16
local now, ttl = now_ms(), tonumber(ARGV[4])
local chunk, mark, fresh, known = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local is_closed = redis.call('HEXISTS', KEYS[2], 'closed') == 1

-- Half of a transcript (a Redis that evicts) is none.
if redis.call('EXISTS', KEYS[1]) ~= redis.call('EXISTS', KEYS[2]) and not is_closed then
  redis.call('DEL', KEYS[1], KEYS[2])
end

local function reply(answer)
  touch(KEYS, ARGV[1], ARGV[2], ttl, now)
  return answer
end

local function has(field) return redis.call('HEXISTS', KEYS[2], field) == 1 end

-- The client sent it again because the answer was lost.
if mark ~= '' and has(mark) then return reply({1, 0, 0, 0}) end

local seen, is_outdated = {}, false
for i, digests in ipairs({fresh, known}) do
  for at = 1, #digests, DIGEST do
    local digest = string.sub(digests, at, at + DIGEST - 1)
    local is_known = has(digest)
    if is_known then seen[#seen + 1] = digest end
    if is_known ~= (i == 2) then is_outdated = true end
  end
end
if is_outdated then return reply({0, table.concat(seen)}) end

if ARGV[3] ~= '' then redis.call('SADD', KEYS[3], ARGV[3]) end
local sizes = redis.call('HMGET', KEYS[2], 'bytes', 'loose', 'sealed')
local bytes, loose, sealed = tonumber(sizes[1] or 0), tonumber(sizes[2] or 0), tonumber(sizes[3] or 0)
local cost = #chunk + #fresh + #mark
if is_closed or bytes + cost > tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[2], 'closed', 1)
  return reply({-1, bytes})
end

redis.call('RPUSH', KEYS[1], chunk)
redis.call('HSET', KEYS[2], 'bytes', bytes + cost, 'loose', loose + #chunk, 'sealed', sealed)
if mark ~= '' then redis.call('HSET', KEYS[2], mark, '') end
for at = 1, #fresh, DIGEST do redis.call('HSET', KEYS[2], string.sub(fresh, at, at + DIGEST - 1), '') end
if ARGV[3] == '' then
  redis.call('ZADD', KEYS[4], now, ARGV[2])
  redis.call('ZADD', KEYS[5], 'GT', now + ttl, ARGV[2])
end
sweep(KEYS[4], KEYS[5], now, 16)
return reply({1, redis.call('LLEN', KEYS[1]) - sealed, loose + #chunk, sealed})
