-- Read before `submit`: what is known of a request that may be made again (`shared/repeats.py`).
-- With an idempotency key: a hash of the digest of what was asked, and the run. Else: a sorted set of runs whose
-- answers have not been told to their end, by when they were accepted.

local MOST_TRIES = 100 -- identical requests at a time among which a retry looks for its own

-- Whether a run was let go by all its readers, and cancelled: such a one answers nobody.
local function is_let_go(run) return redis.call('HEXISTS', run, 'let_go') == 1 end

-- The run to which a retry belongs: of those still going on, or over for no longer than the window, the one that
-- has the fewest readers, and of these the oldest: two retries of two equal requests find one each.
local function first_try(name, prefix, window_ms, now)
  local best, fewest
  for _, id in ipairs(redis.call('ZRANGE', name, 0, MOST_TRIES - 1)) do
    local run = redis.call('HMGET', prefix .. id, 'state', 'readers', 'ended', 'let_go')
    local is_late = run[3] and tonumber(run[3]) < now - window_ms
    if not run[1] or run[4] or is_late then
      redis.call('ZREM', name, id)
    elseif not fewest or tonumber(run[2]) < fewest then
      best, fewest = id, tonumber(run[2])
    end
  end
  return best
end

-- Gives whether the same key was used for something else, and the id of the run of the same request, if any.
local function run_before(name, kind, digest, window_ms, prefix, now)
  if kind == 'retry' then return false, first_try(name, prefix, window_ms, now) end
  if kind ~= 'key' then return false, nil end
  local known = redis.call('HMGET', name, 'digest', 'run')
  if not known[1] then return false, nil end
  if known[1] ~= digest then return true, nil end
  if is_let_go(prefix .. known[2]) then return false, nil end
  return false, known[2]
end

-- The same for a request that made an object at once, a batch or a file, whose id is in `field` of a hash.
local function object_before(name, kind, digest, field)
  if kind ~= 'key' and kind ~= 'retry' then return false, nil end
  local known = redis.call('HMGET', name, 'digest', field)
  if known[1] and known[1] ~= digest then return true, nil end
  return false, known[1] and known[2]
end

local function remember_object(name, kind, digest, ttl_ms, field, id)
  if kind == '' then return end
  redis.call('HSET', name, 'digest', digest, field, id)
  redis.call('PEXPIRE', name, ttl_ms)
end

local function remember(name, kind, digest, ttl_ms, id, now, run_ttl_ms)
  if kind == 'key' then
    redis.call('HSET', name, 'digest', digest, 'run', id)
    redis.call('PEXPIRE', name, ttl_ms)
  elseif kind ~= 'beside' then
    redis.call('ZADD', name, now, id)
    redis.call('PEXPIRE', name, run_ttl_ms)
  end
end
