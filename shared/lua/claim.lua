-- Take due runs: set the owner's lease and move the queue entry behind it in one step. ARQ leaves running
-- jobs at the head of its queue, where they starve the rest; moved to the lease's end they are seen again
-- only if that lease lapses. A worker's own queue only offers: the entry that counts is the agent's.
-- KEYS  1 the worker's own queue, then agents' queues in the order they are to be served
--       of which the last are those of batches
-- ARGV  1 owner token  2 lease (ms)  3 how many at most  4 prefix of lease keys  5 prefix of run records
--       6 how many of the queues are those of batches  7 how many at most off those  8 how many to leave
-- Gives {ms until the next entry is due, or -1; then for each run taken: id, queue, score}
local now = now_ms()
local left = tonumber(ARGV[3])
local taken = {-1}

local function take(id, queue, score)
  if not string.match(id, '^[%w_.:-]+$') then -- not ours: it would come up again for ever
    redis.call('ZREM', queue, id)
    return
  end
  redis.call('ZADD', queue, 'XX', now + ARGV[2], id)
  if redis.call('SET', ARGV[4] .. id, ARGV[1], 'NX', 'PX', ARGV[2]) then
    taken[#taken + 1] = id
    taken[#taken + 1] = queue
    taken[#taken + 1] = score
    left = left - 1
  end
end

while left > 0 do
  local offered = redis.call('ZPOPMIN', KEYS[1], left)
  if #offered == 0 then break end
  for i = 1, #offered, 2 do
    local queue = redis.call('HGET', ARGV[5] .. offered[i], 'queue')
    if queue and redis.call('ZSCORE', queue, offered[i]) and redis.call('EXISTS', ARGV[4] .. offered[i]) == 0 then
      take(offered[i], queue, offered[i + 1])
    end
  end
end
local batches_from = #KEYS - ARGV[6] + 1
for index = 2, #KEYS do
  if index == batches_from then left = math.min(left - ARGV[8], tonumber(ARGV[7])) end
  if index >= batches_from and left <= 0 then break end -- nor look when the next is due: there is no room
  local queue = KEYS[index]
  while left > 0 do
    local due = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'WITHSCORES', 'LIMIT', 0, left)
    if #due == 0 then break end
    for i = 1, #due, 2 do take(due[i], queue, due[i + 1]) end
  end
  local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if taken[1] == -1 or wait < taken[1] then taken[1] = wait end
  end
end
return taken
