-- Delete a project's record. What stays is a mark: a worker that has the files and was away learns from it that
-- they may go. A record that is only missing (a Redis that lost its data) is no order to delete anything.
-- KEYS  1 project record  2 tenant's projects
-- ARGV  1 project id  2 how long the mark stays (ms)
-- Gives 1 | 0 there is no such project
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HEXISTS', KEYS[1], 'created') == 0 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'gone', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
