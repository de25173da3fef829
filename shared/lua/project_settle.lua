-- Say how the making of a project ended; once, and only while it is still wanted.
-- KEYS  1 project record
-- ARGV  1 state  2 error or ''
-- Gives 1 | 0 it was deleted meanwhile, or has been settled
if redis.call('HGET', KEYS[1], 'state') ~= 'creating' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'error', ARGV[2])
return 1
