-- Take due runs: set the owner's lease and move the queue entry behind it in one step. ARQ leaves running
-- jobs at the head of its queue, where they starve the rest; moved to the lease's end they are seen again
-- only if that lease lapses.
-- KEYS  queues, in the order they are to be served
-- ARGV  1 owner token  2 lease (ms)  3 how many at most  4 prefix of lease keys
-- Gives {ms until the next entry is due, or -1; then for each run taken: id, index of its queue, score}
local now = now_ms()
local left = tonumber(ARGV[3])
local taken = {-1}
for index, queue in ipairs(KEYS) do
  while left > 0 do
    local due = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'WITHSCORES', 'LIMIT', 0, left)
    if #due == 0 then break end
    for i = 1, #due, 2 do
      local lease = ARGV[4] .. due[i]
      redis.call('ZADD', queue, 'XX', now + ARGV[2], due[i])
      if redis.call('SET', lease, ARGV[1], 'NX', 'PX', ARGV[2]) then
        taken[#taken + 1] = due[i]
        taken[#taken + 1] = index
        taken[#taken + 1] = due[i + 1]
        left = left - 1
      end
    end
  end
  local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if taken[1] == -1 or wait < taken[1] then taken[1] = wait end
  end
end
return taken
