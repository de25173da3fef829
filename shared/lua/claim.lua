-- Take runs: set the owner's lease and put the queue entry off to its end in one step. ARQ leaves running
-- jobs at the head of its queue, where they starve the rest; put off they are seen again only if that lease
-- lapses. Tiers come in order, lines of a tier in turns, over all queues; a tier that was passed over often
-- enough comes first for once. Runs of batches leave room for others. A worker's own queue only offers runs
-- of these queues, and only while nothing waits: the entry that counts is the agent's. While the model's
-- service refuses, nothing is taken; then one run, as a probe.
-- KEYS  1 the worker's own queue  2 how often its tiers were passed over  3 the pause of its credentials
--       then agents' queues, of which the last are those of batches
-- ARGV  1 owner token  2 lease (ms)  3 how many at most  4 how many of the queues are those of batches
--       5 how many at most off those  6 how many to leave  7 how long a probe may take (ms)
-- Gives {ms until there is more to take, or -1; 1 when it is a probe; then for each run taken: id, queue, score}
local SHARES = {[1] = 9, [2] = 19, [3] = 49, [4] = 49, [5] = 49} -- turns a tier may be passed over
local now, lease_ms = now_ms(), tonumber(ARGV[2])
local left, batch_left, spare = tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local batches_from = #KEYS - ARGV[4] + 1
local taken = {-1, 0}

local function due_in(ms)
  ms = math.max(0, ms)
  if taken[1] == -1 or ms < taken[1] then taken[1] = ms end
end

local paused = redis.call('HMGET', KEYS[3], 'until')
if paused[1] and tonumber(paused[1]) > now then -- a probe is under way, or it is not yet time for one
  local rest = paused[1] - now
  for index = 4, #KEYS do
    if redis.call('EXISTS', KEYS[index]) == 1 then redis.call('SET', KEYS[index] .. ':paused', paused[1], 'PX', rest) end
  end
  due_in(rest)
  return taken
elseif paused[1] then
  left, spare, taken[2] = math.min(left, 1), 0, 1
end

-- ARQ counts a start when it looks at the job. What counts against a run is that its agent was begun: a
-- worker that dies before would else, over and over, be held against runs it never had.
local function forget_unbegun(id)
  local tries, counted = redis.call('HGET', RUN .. id, 'tries'), redis.call('GET', RETRY .. id)
  if tries and counted and tonumber(counted) > tonumber(tries) then
    redis.call('SET', RETRY .. id, tries, 'KEEPTTL')
  end
end

local function take(id, queue, score)
  forget_unbegun(id)
  put_off(queue, id, now + lease_ms)
  redis.call('SET', LEASE .. id, ARGV[1], 'PX', lease_ms)
  redis.call('LPUSH', queue .. ':taken', now)
  redis.call('LTRIM', queue .. ':taken', 0, 31)
  redis.call('PEXPIRE', queue .. ':taken', 600000)
  taken[#taken + 1] = id
  taken[#taken + 1] = queue
  taken[#taken + 1] = score
  left = left - 1
end

local heads, is_waiting, is_asked = {}, false, {}
for index = 4, #KEYS do
  is_asked[KEYS[index]] = true
  look_through(KEYS[index], now, lease_ms)
  if redis.call('EXISTS', KEYS[index] .. ':turns') == 1 then
    heads[index] = {}
    is_waiting = is_waiting or index < batches_from
  end
end

while left > 0 and not is_waiting do
  local offered = redis.call('ZPOPMIN', KEYS[1])
  if #offered == 0 then break end
  local queue = redis.call('HGET', RUN .. offered[1], 'queue')
  if queue and is_asked[queue] and redis.call('ZSCORE', queue, offered[1])
      and redis.call('EXISTS', LEASE .. offered[1]) == 0 then
    take(offered[1], queue, offered[2])
  end
end

-- The line of a tier whose turn it is in a queue, and its first run; what is not so any more is put right.
local function head_of(queue, tier)
  while true do
    local first = redis.call('ZRANGEBYSCORE', queue .. ':turns', string.format('%.0f', tier * TIER),
      string.format('(%.0f', (tier + 1) * TIER), 'WITHSCORES', 'LIMIT', 0, 1)
    local line, turn = first[1], tonumber(first[2] or 0) - tier * TIER
    if not line then return nil end
    local served = tonumber(redis.call('ZSCORE', SERVED, line) or 0)
    local id = redis.call('ZRANGE', queue .. ':of:' .. line, 0, 0)[1]
    if served > turn then
      redis.call('ZADD', queue .. ':turns', tier * TIER + served, line)
    elseif not id then
      redis.call('ZREM', queue .. ':turns', line)
    else
      local due = redis.call('ZSCORE', queue, id)
      if due and tonumber(due) <= now and redis.call('EXISTS', LEASE .. id) == 0 then
        return {queue = queue, line = line, turn = turn, id = id, due = due,
          queue_turn = tonumber(redis.call('ZSCORE', SERVED, queue) or 0)}
      end
      leave_line(queue, id, line)
      if due then put_off(queue, id, math.max(tonumber(due), now + lease_ms)) end
    end
  end
end

-- Of a tier the run whose turn it is; one tenant's queues take turns among themselves.
local function best_of(tier)
  local best
  for index = tier < 3 and 4 or batches_from, tier < 3 and batches_from - 1 or #KEYS do
    local known = heads[index]
    if known then
      if known[tier] == nil then known[tier] = head_of(KEYS[index], tier) or false end
      local head = known[tier]
      if head and (not best or head.turn < best.turn
          or (head.turn == best.turn and head.queue_turn < best.queue_turn)) then
        best = head
      end
    end
  end
  return best
end

local function serve(tier, head)
  take(head.id, head.queue, head.due)
  local turn = next_turn()
  redis.call('ZADD', SERVED, turn, head.line, turn, head.queue)
  redis.call('ZADD', head.queue .. ':turns', 'XX', tier * TIER + turn, head.line)
  for index, known in pairs(heads) do
    if known[tier] and (KEYS[index] == head.queue or known[tier].line == head.line) then known[tier] = nil end
  end
end

local passed = {}
for tier, count in ipairs(redis.call('HMGET', KEYS[2], 1, 2, 3, 4, 5)) do passed[tier] = tonumber(count or 0) end
local has_served = false
while left > 0 and next(heads) do
  local best, chosen = {}, nil
  for tier = 0, 5 do
    if tier < 3 or batch_left > 0 then best[tier] = best_of(tier) end
    local may_go = best[tier] and (tier < 3 or left > spare)
    if may_go and not chosen then chosen = tier end
  end
  for tier = 5, 1, -1 do
    if not best[tier] then passed[tier] = 0 elseif passed[tier] >= SHARES[tier] then chosen = tier end
  end
  if not chosen then break end
  serve(chosen, best[chosen])
  if chosen >= 3 then batch_left = batch_left - 1 end
  for tier = chosen + 1, 5 do
    if best[tier] then passed[tier] = passed[tier] + 1 end
  end
  passed[chosen] = 0
  has_served = true
end

if has_served then
  redis.call('ZREMRANGEBYRANK', SERVED, 0, -MOST_SERVED - 1)
  redis.call('PEXPIRE', SERVED, TURNS_TTL_MS)
  redis.call('HSET', KEYS[2], 1, passed[1], 2, passed[2], 3, passed[3], 4, passed[4], 5, passed[5])
  redis.call('PEXPIRE', KEYS[2], TURNS_TTL_MS)
end
for index = 4, #KEYS do
  local may_take = index < batches_from or (batch_left > 0 and left > spare)
  if may_take and redis.call('EXISTS', KEYS[index] .. ':turns') == 1 then due_in(0) end
  if index < batches_from or batch_left > 0 then -- else there is no room, whatever is due
    local first = redis.call('ZRANGE', KEYS[index] .. ':later', 0, 0, 'WITHSCORES')
    if first[2] then due_in(first[2] - now) end
  end
end
if taken[2] == 1 then
  if taken[3] then
    redis.call('HSET', KEYS[3], 'until', now + ARGV[7], 'probing', 1)
    redis.call('PEXPIRE', KEYS[3], ARGV[7] + 60000)
  else
    taken[2] = 0
  end
end
return taken
