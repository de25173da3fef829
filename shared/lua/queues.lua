-- Read before every script, after common.lua: the order of work in a queue.
-- A queue is ARQ's: every run that is not over is in it once, by when it is due (ms), and it alone says what
-- there is. Beside it, with these words after its name, stands what makes the order cheap to find; each of
-- its runs is either in `:waiting` and one line, or in `:later`:
--   :waiting      runs that any worker may take, by tier
--   :of:<line>    the same of one line, by when they were created; a line is a tenant within a tier
--   :turns        lines with waiting runs, by tier and turn: the first is served next
--   :later        runs that are due later, by when (ms): claimed ones (at the lease's end), offered ones
--   :taken        when the newest runs were claimed (ms), the newest first: how fast it drains
-- A line joins at the end of its tier, and goes there when it was served, so that lines take turns. Turns are
-- numbers of one count, and `SERVED` knows the last one of each line: a tenant takes turns as one over all
-- queues. RUN, LEASE, RETRY, TURN, SERVED and BATCH stand in front (shared/scripts.py).

local TIER, MOST_SERVED, TURNS_TTL_MS, TURNS_EPOCH_MS = 1e15, 10000, 86400000, 1735689600000

local function tier_in(queue, tier)
  return tonumber(tier or 1) + (string.sub(queue, 1, #BATCH) == BATCH and 3 or 0)
end

local function line_of(queue, id)
  local record = redis.call('HMGET', RUN .. id, 'tier', 'tenant', 'created')
  local tier = tier_in(queue, record[1])
  return tier .. ':' .. redis.sha1hex(record[2] or ''), tier, record[3] or 0
end

-- The count begins with the time, so that it never falls back behind turns that were given before it lapsed.
local function next_turn()
  if redis.call('EXISTS', TURN) == 0 then
    redis.call('SET', TURN, string.format('%.0f', (now_ms() - TURNS_EPOCH_MS) * 1000))
  end
  local turn = redis.call('INCR', TURN)
  redis.call('PEXPIRE', TURN, TURNS_TTL_MS)
  return turn
end

-- Let a run wait for its line's turn.
local function enrol(queue, id)
  local line, tier, created = line_of(queue, id)
  redis.call('ZREM', queue .. ':later', id)
  redis.call('ZADD', queue .. ':waiting', tier, id)
  redis.call('ZADD', queue .. ':of:' .. line, created, id)
  if not redis.call('ZSCORE', queue .. ':turns', line) then
    redis.call('ZADD', queue .. ':turns', tier * TIER + next_turn(), line)
  end
end

local function leave_line(queue, id, line)
  redis.call('ZREM', queue .. ':waiting', id)
  redis.call('ZREM', queue .. ':of:' .. line, id)
  if redis.call('EXISTS', queue .. ':of:' .. line) == 0 then redis.call('ZREM', queue .. ':turns', line) end
end

local function withdraw(queue, id)
  if redis.call('ZSCORE', queue .. ':waiting', id) then
    local line = line_of(queue, id)
    leave_line(queue, id, line)
  end
end

-- Let nobody look at a run before a time (ms).
local function put_off(queue, id, due)
  withdraw(queue, id)
  redis.call('ZADD', queue, 'XX', due, id)
  redis.call('ZADD', queue .. ':later', due, id)
end

local function forget(queue, id)
  withdraw(queue, id)
  redis.call('ZREM', queue, id)
  redis.call('ZREM', queue .. ':later', id)
end

-- See to the runs whose time has come, and to those that another version has put into the queue alone. Each
-- look is bounded; what is left comes up at the next.
local function look_through(queue, now, lease_ms)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', queue .. ':later', '-inf', now, 'LIMIT', 0, 100)) do
    local due = redis.call('ZSCORE', queue, id)
    if not due then
      redis.call('ZREM', queue .. ':later', id)
    elseif tonumber(due) > now then
      redis.call('ZADD', queue .. ':later', due, id)
    elseif redis.call('EXISTS', LEASE .. id) == 1 then
      put_off(queue, id, now + lease_ms)
    else
      enrol(queue, id)
    end
  end
  local all = redis.call('ZCARD', queue)
  if all <= redis.call('ZCARD', queue .. ':waiting') + redis.call('ZCARD', queue .. ':later') then return end
  for _, from in ipairs({0, math.random(0, all - 1)}) do
    local entries = redis.call('ZRANGE', queue, from, from + 99, 'WITHSCORES')
    for i = 1, #entries, 2 do
      local id, due = entries[i], tonumber(entries[i + 1])
      if not string.match(id, '^[%w_.:-]+$') then -- not ours: it would come up again for ever
        forget(queue, id)
      elseif not redis.call('ZSCORE', queue .. ':waiting', id) and not redis.call('ZSCORE', queue .. ':later', id) then
        if due > now then redis.call('ZADD', queue .. ':later', due, id) else enrol(queue, id) end
      end
    end
  end
end

-- How long (ms) a queue takes to start `count` runs, by the last two minutes; nil when it started none.
local function drain_ms(queue, count, now)
  local started, oldest = 0, now
  for _, at in ipairs(redis.call('LRANGE', queue .. ':taken', 0, -1)) do
    if now - at > 120000 then break end
    started, oldest = started + 1, tonumber(at)
  end
  return started > 0 and count * math.max(1, now - oldest) / started or nil
end
