-- Take open batches that nobody sees to. Each taking counts the record's epoch: whoever had it before can
-- write nothing any more.
-- KEYS  1 open batches
-- ARGV  1 lease (ms)  2 how many at most  3 prefix of batch records
-- Gives for each batch taken: member, epoch
local now = now_ms()
local taken = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local record = ARGV[3] .. string.match(member, '^[^/]*')
  if redis.call('EXISTS', record) == 0 then
    redis.call('ZREM', KEYS[1], member)
  else
    redis.call('ZADD', KEYS[1], now + ARGV[1], member)
    taken[#taken + 1] = member
    taken[#taken + 1] = redis.call('HINCRBY', record, 'epoch', 1)
  end
end
return taken
