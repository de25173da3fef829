-- Move a batch on, once: only by the newest taker, only from where it should be. Its end clears up after it.
-- KEYS  1 batch record  2 open batches  3 results  4 done  5 parts  6 flight
-- ARGV  1 epoch  2 member of the open batches  3 statuses to come from, each between commas
--       4 status to go to  5 notice of its end (webhooks.lua), or ''  6.. fields and values
-- Gives 1 done | 0 refused
local record = redis.call('HMGET', KEYS[1], 'epoch', 'status')
if record[1] ~= ARGV[1] or not string.find(ARGV[3], ',' .. record[2] .. ',', 1, true) then return 0 end
if record[2] ~= ARGV[4] then redis.call('HSET', KEYS[1], 'status', ARGV[4], ARGV[4] .. '_at', now_ms()) end
if #ARGV > 5 then redis.call('HSET', KEYS[1], unpack(ARGV, 6)) end
if ARGV[5] ~= '' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
  tell_webhooks(ARGV[5])
end
return 1
