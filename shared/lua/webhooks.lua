-- Read before every script, after accounts.lua: an event into the queues of the endpoints that want it. It is
-- called by the script that ends a response or a batch, so that no end is without its event, whoever dies.
-- The names of an endpoint's keys are its own behind the prefixes in the notice (shared/webhooks/outbox.py).

local function queue_delivery(notice, place, delivery, now)
  local queue, deliveries, shown = notice.queue .. place, notice.deliveries .. place, notice.shown .. place
  if redis.call('ZCARD', queue) >= notice.most_waiting then
    delivery.state, delivery.error = 'failed', 'Too many deliveries were waiting.'
  else
    redis.call('ZADD', queue, now, notice.event)
    redis.call('PEXPIRE', queue, notice.ttl_ms)
    redis.call('ZADD', notice.open, 'LT', now, place)
    redis.call('PEXPIRE', notice.open, notice.ttl_ms)
  end
  redis.call('HSET', deliveries, notice.event, cjson.encode(delivery))
  redis.call('PEXPIRE', deliveries, notice.ttl_ms)
  redis.call('ZADD', shown, now, notice.event)
  redis.call('PEXPIRE', shown, notice.ttl_ms)
  for _, old in ipairs(redis.call('ZRANGE', shown, 0, -notice.most_shown - 1)) do
    redis.call('ZREM', shown, old)
    if not redis.call('ZSCORE', queue, old) then redis.call('HDEL', deliveries, old) end
  end
end

-- `text` is a notice in JSON; one of an event that nobody wants leaves nothing.
local function tell_webhooks(text)
  local notice, now = cjson.decode(text), now_ms()
  local function delivery()
    local created = notice.created > 0 and notice.created or math.floor(now / 1000)
    return {type = notice.type, object_id = notice.object, created = created}
  end
  for _, record in ipairs(redis.call('HVALS', notice.webhooks .. notice.owner)) do
    local webhook, is_wanted = cjson.decode(record), false
    for _, wanted in ipairs(webhook.event_types) do is_wanted = is_wanted or wanted == notice.type end
    if is_wanted and not webhook.disabled then
      queue_delivery(notice, notice.owner .. ':' .. webhook.id, delivery(), now)
    end
  end
  if notice.with_operator then queue_delivery(notice, 'operator:operator', delivery(), now) end
end
