-- Name the run that takes up a dead letter. Whoever asks first names it, so that two who ask at the same time
-- submit one run.
-- KEYS  1 letter  2 its request
-- ARGV  1 id for the run
-- Gives {the run's id, request}; {} when there is no such letter (any more)
local request = redis.call('GET', KEYS[2])
if not request or redis.call('EXISTS', KEYS[1]) == 0 then return {} end
redis.call('HSETNX', KEYS[1], 'retried_as', ARGV[1])
return {redis.call('HGET', KEYS[1], 'retried_as'), request}
