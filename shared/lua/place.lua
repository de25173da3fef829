-- Where a run waits: how many start before it and itself, as its queue stands. Of many lines the first 200
-- are looked at, the rest is taken to be like the run's own.
-- KEYS  1 run record
-- ARGV  1 run id
-- Gives {place from 1, or 0 when it does not wait; ms for which nothing is started, or 0}
local queue = redis.call('HGET', KEYS[1], 'queue')
if not queue then return {0, 0} end
local paused = math.max(0, redis.call('PTTL', queue .. ':paused'))
local tier = redis.call('ZSCORE', queue .. ':waiting', ARGV[1])
if not tier then return {0, paused} end
local line = line_of(queue, ARGV[1])
local before = redis.call('ZRANK', queue .. ':of:' .. line, ARGV[1])
if not before then return {0, paused} end
local place = 1 + before + redis.call('ZCOUNT', queue .. ':waiting', '-inf', '(' .. tier)
local from, to = string.format('%.0f', tier * TIER), string.format('(%.0f', (tier + 1) * TIER)
local others = redis.call('ZRANGEBYSCORE', queue .. ':turns', from, to, 'LIMIT', 0, 200)
local is_behind = 1 -- one more of a line whose turn comes first
for _, other in ipairs(others) do
  if other == line then
    is_behind = 0
  else
    place = place + math.min(redis.call('ZCARD', queue .. ':of:' .. other), before + is_behind)
  end
end
local more = redis.call('ZCOUNT', queue .. ':turns', from, to) - #others
return {place + math.max(0, more) * before, paused}
