-- Take due deliveries, a few of each endpoint whose turn it is. A delivery that is taken is due again when its
-- lease ends, so that it outlives whoever took it; how many are under way to an endpoint is counted here, for
-- all replicas together. The endpoint's turn comes again with what it has next.
-- KEYS  1 open endpoints
-- ARGV  1 most deliveries  2 most under way to one endpoint  3 lease (ms)  4 member to leave alone, or ''
--       5 prefix of tenants' endpoints  6 of queues  7 of deliveries  8 of flights
-- Gives now (ms), then for each delivery: member, endpoint's record or '', event id, delivery
local now, lease, left = now_ms(), tonumber(ARGV[3]), tonumber(ARGV[1])
local answer = {now}
for _, place in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, left + 1)) do
  if left < 1 then break end
  if place ~= ARGV[4] then
    local queue, deliveries, flight = ARGV[6] .. place, ARGV[7] .. place, ARGV[8] .. place
    local owner, id = string.match(place, '^([^:]*):(.*)$')
    local record = redis.call('HGET', ARGV[5] .. owner, id) or ''
    redis.call('ZREMRANGEBYSCORE', flight, '-inf', now)
    local room = math.min(left, tonumber(ARGV[2]) - redis.call('ZCARD', flight))
    if room > 0 then
      for _, event in ipairs(redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, room)) do
        local delivery = redis.call('HGET', deliveries, event)
        if delivery then
          redis.call('ZADD', queue, now + lease, event)
          redis.call('ZADD', flight, now + lease, event)
          redis.call('PEXPIRE', flight, lease)
          answer[#answer + 1], answer[#answer + 2], answer[#answer + 3], answer[#answer + 4] =
            place, record, event, delivery
          left = left - 1
        else
          redis.call('ZREM', queue, event)
        end
      end
    end
    local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
    local is_full = redis.call('ZCARD', flight) >= tonumber(ARGV[2])
    if is_full then first = redis.call('ZRANGE', flight, 0, 0, 'WITHSCORES') end -- or when one of them is noted
    if first[2] then
      redis.call('ZADD', KEYS[1], math.max(first[2], now), place)
    else
      redis.call('ZREM', KEYS[1], place)
    end
  end
end
return answer
