-- Read before every script: the words they share.

-- Milliseconds of Redis's clock; no decision compares the clocks of two hosts.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Append an event under the next number of the run and tell the readers. Redis refuses an id below the
-- newest one, and the attempt is the id's first half, so an earlier attempt can write nothing. With `after`
-- the number is beyond that one, too: what lies between is lost, and readers notice the hole.
local function last_number(events)
  local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
  return last[1] and tonumber(string.match(last[1][1], '-(%d+)$')) or 0
end

local function append(events, attempt, event, after)
  local n = math.max(last_number(events), after or 0) + 1
  local id = attempt .. '-' .. n
  redis.call('XADD', events, id, 'e', event)
  redis.call('PUBLISH', events, id .. ' ' .. event)
  return n
end

-- Put an id into a list that lives as long as its newest entry, and sweep out what has lapsed.
local function enlist(list, id, now, ttl_ms)
  redis.call('ZADD', list, now, id)
  redis.call('ZREMRANGEBYSCORE', list, '-inf', now - ttl_ms)
  redis.call('PEXPIRE', list, ttl_ms)
end

-- Put a run into its lists. Of each the two oldest are looked at, so that what has lapsed leaves it faster
-- than runs come; where one that is kept long stands before it, the reader of the list sweeps it out.
local function list_run(lists, id, now, ttl_ms, run_prefix, most)
  for _, list in ipairs(lists) do
    for _, oldest in ipairs(redis.call('ZRANGE', list, 0, 1)) do
      if redis.call('EXISTS', run_prefix .. oldest) == 0 then redis.call('ZREM', list, oldest) end
    end
    redis.call('ZADD', list, now, id)
    redis.call('ZREMRANGEBYRANK', list, 0, -most - 1)
    if redis.call('PTTL', list) < ttl_ms then redis.call('PEXPIRE', list, ttl_ms) end
  end
end
