-- Read before every script, after common.lua: what the runs of an API key add up to, and the usage of a day.
-- A minute begins with its first run, a day at 00:00 UTC, a month on the 1st. Money is in millionths of a USD.
-- The names of a key's runs are its account's with `:runs` and `:waiting` after it (shared/redis_keys.py).

local DAY_MS, ACCOUNT_TTL_MS, USAGE_TTL_MS = 86400000, 32 * 86400000, 400 * 86400000
local COUNTERS = {'minute', 'minute_requests', 'minute_tokens', 'day', 'day_requests', 'day_tokens', 'day_usd',
  'month', 'month_requests', 'month_usd', 'mean_usd'}

-- Year and month of a day since 1970, by the Gregorian calendar's 400 years of 146,097 days from 1 March.
local function date_of(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - math.floor((153 * mp + 2) / 5) + 1
end

-- The account's counters with those of past windows at 0.
local function standing(account, now)
  local values, s = redis.call('HMGET', account, unpack(COUNTERS)), {}
  for i, name in ipairs(COUNTERS) do s[name] = tonumber(values[i] or 0) end
  local day = math.floor(now / DAY_MS)
  local year, month = date_of(day)
  if now - s.minute >= 60000 or s.minute > now then s.minute, s.minute_requests, s.minute_tokens = now, 0, 0 end
  if s.day ~= day then s.day, s.day_requests, s.day_tokens, s.day_usd = day, 0, 0, 0 end
  if s.month ~= year * 12 + month then s.month, s.month_requests, s.month_usd = year * 12 + month, 0, 0 end
  return s
end

local function keep(account, s)
  local fields = {}
  for _, name in ipairs(COUNTERS) do
    fields[#fields + 1] = name
    fields[#fields + 1] = string.format('%.0f', math.max(0, s[name]))
  end
  redis.call('HSET', account, unpack(fields))
  redis.call('PEXPIRE', account, ACCOUNT_TTL_MS)
end

-- How many runs a list holds; at its limit those are dropped first that ended unseen, with a lost record.
local function held(list, limit, is_held)
  local count = redis.call('ZCARD', list)
  if limit < 0 or count < limit then return count end
  for _, id in ipairs(redis.call('ZRANGE', list, 0, -1)) do
    if not is_held(id) then count = count - redis.call('ZREM', list, id) end
  end
  return count
end

-- Count a run in before it begins, or give the name of the limit that it would pass (its numbers follow).
-- limits: in the order below, -1 for none. Gives name or '', and the standing.
local function reserve(account, now, run_prefix, id, tokens, limits, ttl_ms)
  local s = standing(account, now)
  local function state(run) return redis.call('HGET', run_prefix .. run, 'state') end
  local runs = held(account .. ':runs', limits[6], function(run)
    local at = state(run)
    return at == 'queued' or at == 'running'
  end)
  local waiting = held(account .. ':waiting', limits[7], function(run) return state(run) == 'queued' end)
  local usd = math.max(1, s.mean_usd)
  local asked = {
    {'requests_per_minute', s.minute_requests, 1}, {'tokens_per_minute', s.minute_tokens, tokens},
    {'requests_per_day', s.day_requests, 1}, {'tokens_per_day', s.day_tokens, tokens},
    {'requests_per_month', s.month_requests, 1}, {'concurrent_runs', runs, 1}, {'queued_runs', waiting, 1},
    {'usd_per_day', s.day_usd, usd}, {'usd_per_month', s.month_usd, usd},
  }
  s.runs, s.waiting = runs, waiting
  for i, ask in ipairs(asked) do
    if limits[i] >= 0 and ask[2] + ask[3] > limits[i] then return ask[1], s end
  end
  s.minute_requests, s.minute_tokens = s.minute_requests + 1, s.minute_tokens + tokens
  s.day_requests, s.day_tokens, s.day_usd = s.day_requests + 1, s.day_tokens + tokens, s.day_usd + s.mean_usd
  s.month_requests, s.month_usd = s.month_requests + 1, s.month_usd + s.mean_usd
  s.runs, s.waiting = runs + 1, waiting + 1
  keep(account, s)
  for _, list in ipairs({account .. ':runs', account .. ':waiting'}) do
    redis.call('ZREMRANGEBYSCORE', list, '-inf', now)
    redis.call('ZADD', list, now + ttl_ms, id)
    redis.call('PEXPIRE', list, ttl_ms)
  end
  redis.call('HSET', run_prefix .. id, 'account', account,
    'reserved', string.format('%.0f %.0f %.0f %.0f %.0f', tokens, s.mean_usd, s.minute, s.day, s.month))
  return '', s
end

-- Put what was used in the place of what was reserved. In a window that has begun since, only what goes
-- beyond the reservation counts: the rest was counted in the window before.
local function settle_account(account, id, reserved, now, tokens, usd)
  redis.call('ZREM', account .. ':runs', id)
  redis.call('ZREM', account .. ':waiting', id)
  local r = {}
  for number in string.gmatch(reserved, '%d+') do r[#r + 1] = tonumber(number) end
  local s = standing(account, now)
  local more, dearer = tokens - r[1], usd - r[2]
  s.minute_tokens = s.minute_tokens + (s.minute == r[3] and more or math.max(0, more))
  s.day_tokens = s.day_tokens + (s.day == r[4] and more or math.max(0, more))
  s.day_usd = s.day_usd + (s.day == r[4] and dearer or math.max(0, dearer))
  s.month_usd = s.month_usd + (s.month == r[5] and dearer or math.max(0, dearer))
  if usd > 0 then s.mean_usd = s.mean_usd == 0 and usd or math.floor((3 * s.mean_usd + usd) / 4) end
  keep(account, s)
end

-- Settle a run that has just ended, in the step that ends it and therefore once.
-- spent: 'input cache_read cache_write output micro_usd'
local function settle(run, id, state, spent)
  local record = redis.call('HMGET', run, 'account', 'reserved', 'usage', 'key', 'agent')
  if not record[3] then return end -- accepted by an earlier version
  local now, n = now_ms(), {}
  for number in string.gmatch(spent, '%d+') do n[#n + 1] = tonumber(number) end
  local year, month, day = date_of(math.floor(now / DAY_MS))
  local rows = {
    [record[3] .. string.format('%04d-%02d-%02d', year, month, day)] = (record[4] or '') .. ' ' .. record[5] .. ' ',
    [record[3] .. 'total'] = '',
    [record[3] .. 'agents'] = record[5] .. ' ',
  }
  for row, stem in pairs(rows) do
    redis.call('HINCRBY', row, stem .. 'requests', 1)
    redis.call('HINCRBY', row, stem .. state, 1)
    for i, name in ipairs({'input', 'cache_read', 'cache_write', 'output', 'usd'}) do
      if n[i] > 0 then redis.call('HINCRBY', row, stem .. name, string.format('%.0f', n[i])) end
    end
    redis.call('PEXPIRE', row, USAGE_TTL_MS)
  end
  if record[1] then
    settle_account(record[1], id, record[2], now, n[1] + n[2] + n[3] + n[4], n[5])
  end
end

-- End a run: terminal event, state, what it used, and the clean-up of the queue and of ARQ's keys together.
-- keys: run record, events, queue, job body, lease, start count
local function end_run(keys, run_id, attempt, state, event, retention_ms, spent, after)
  append(keys[2], attempt, event, after)
  retention_ms = redis.call('HGET', keys[1], 'keep') or retention_ms
  redis.call('HSET', keys[1], 'state', state, 'ended', now_ms(), 'end', event)
  redis.call('HDEL', keys[1], 'request') -- what was said need not outlive the run
  redis.call('PEXPIRE', keys[1], retention_ms)
  redis.call('PEXPIRE', keys[2], retention_ms)
  forget(keys[3], run_id)
  local offered = redis.call('HGET', keys[1], 'offered')
  if offered then redis.call('ZREM', offered, run_id) end
  redis.call('DEL', keys[4], keys[5], keys[6])
  settle(keys[1], run_id, state, spent)
end
