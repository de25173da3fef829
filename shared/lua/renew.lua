-- Keep what this worker runs, and hear what it should stop. A lease that lapsed without a taker (Redis was
-- away, or this host slept) is taken back; one that another worker has is lost, and its run must stop here.
-- KEYS  for each run: lease, queue, run record
-- ARGV  1 lease (ms), then for each run: id, owner token
-- Gives for each run: -1 lost, 0 kept, 1 kept and asked to cancel
local now = now_ms()
local answers = {}
for i = 1, #KEYS / 3 do
  local lease, queue, run = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local id, token = ARGV[2 * i], ARGV[2 * i + 1]
  local owner = redis.call('GET', lease)
  local record = redis.call('HMGET', run, 'state', 'worker')
  if record[1] and record[1] ~= 'queued' and record[1] ~= 'running' then
    -- It has ended: here, and its worker is still tidying up; or elsewhere, and this worker woke late.
    answers[i] = record[2] == string.match(token, '^(.*):') and 0 or -1
  elseif owner ~= token and (owner or not redis.call('ZSCORE', queue, id)) then
    answers[i] = -1
  else
    redis.call('SET', lease, token, 'PX', ARGV[1])
    put_off(queue, id, now + ARGV[1])
    answers[i] = redis.call('HEXISTS', run, 'cancel')
  end
end
return answers
