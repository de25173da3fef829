-- Read before every script: the words they share.

-- Milliseconds of Redis's clock; no decision compares the clocks of two hosts.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Append an event under the next number of the run and tell the readers. Redis refuses an id below the
-- newest one, and the attempt is the id's first half, so an earlier attempt can write nothing.
local function append(events, attempt, event)
  local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
  local n = 1
  if last[1] then n = tonumber(string.match(last[1][1], '-(%d+)$')) + 1 end
  local id = attempt .. '-' .. n
  redis.call('XADD', events, id, 'e', event)
  redis.call('PUBLISH', events, id .. ' ' .. event)
  return n
end

-- End a run: terminal event, state, and the clean-up of the queue and of ARQ's keys together.
-- keys: run record, events, queue, job body, lease, start count
local function end_run(keys, run_id, attempt, state, event, retention_ms)
  append(keys[2], attempt, event)
  retention_ms = redis.call('HGET', keys[1], 'keep') or retention_ms
  redis.call('HSET', keys[1], 'state', state, 'ended', now_ms())
  redis.call('HDEL', keys[1], 'request') -- what was said need not outlive the run
  redis.call('PEXPIRE', keys[1], retention_ms)
  redis.call('PEXPIRE', keys[2], retention_ms)
  redis.call('ZREM', keys[3], run_id)
  local offered = redis.call('HGET', keys[1], 'offered')
  if offered then redis.call('ZREM', offered, run_id) end
  redis.call('DEL', keys[4], keys[5], keys[6])
end

-- Put an id into a list that lives as long as its newest entry, and sweep out what has lapsed.
local function enlist(list, id, now, ttl_ms)
  redis.call('ZADD', list, now, id)
  redis.call('ZREMRANGEBYSCORE', list, '-inf', now - ttl_ms)
  redis.call('PEXPIRE', list, ttl_ms)
end
