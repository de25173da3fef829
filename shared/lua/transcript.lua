-- Read before every script of transcripts: how long their keys live.
-- keys: 1 chunks  2 index  3 session's subpaths  4 project's mtimes  5 project's expiries

local function lengthen(key, ttl_ms)
  if redis.call('PTTL', key) < ttl_ms then redis.call('PEXPIRE', key, ttl_ms) end
end

local function lengthen_transcript(prefix, ttl_ms)
  lengthen(prefix .. 'chunks', ttl_ms)
  lengthen(prefix .. 'index', ttl_ms)
end

-- A session lives as one: use of any of its transcripts keeps all of them. The others' turn comes each time
-- an eighth of the time to live has passed, because a session can have hundreds; the set that names them has
-- a quarter more, so that it is there as long as any of them.
local function touch(keys, prefix, session, ttl_ms, now)
  lengthen(keys[1], ttl_ms)
  lengthen(keys[2], ttl_ms)
  lengthen_transcript(prefix, ttl_ms)
  if redis.call('PTTL', keys[3]) < ttl_ms * 1.125 then
    for _, subpath in ipairs(redis.call('SMEMBERS', keys[3])) do
      lengthen_transcript(prefix .. subpath .. ':', ttl_ms)
    end
    lengthen(keys[3], math.ceil(ttl_ms * 1.25))
  end
  redis.call('ZADD', keys[5], 'XX', 'GT', now + ttl_ms, session)
  lengthen(keys[4], ttl_ms)
  lengthen(keys[5], ttl_ms)
end

-- Forget sessions whose transcripts lapsed, at most `limit`; gives how many.
local function sweep(mtimes, expiries, now, limit)
  local lapsed = redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, limit)
  if lapsed[1] then
    redis.call('ZREM', mtimes, unpack(lapsed))
    redis.call('ZREM', expiries, unpack(lapsed))
  end
  return #lapsed
end
