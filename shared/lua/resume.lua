-- The model's service has answered: runs may start again, and whoever serves the queue hears of it.
-- KEYS  1 pause  2 queue of the run it answered
-- ARGV  1 doorbell
redis.call('DEL', KEYS[1], KEYS[2] .. ':paused')
redis.call('PUBLISH', ARGV[1], '')
