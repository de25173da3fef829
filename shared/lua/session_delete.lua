-- Delete a session's record and its place in the index. What stays is a mark, so that a turn which is under
-- way on it now does not store it again.
-- KEYS  1 session record  2 tenant's sessions  3 its sessions of the agent  4 prefix
-- ARGV  1 session id  2 how long the mark stays (ms)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'gone', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('HGET', KEYS[4], 'session') == ARGV[1] then redis.call('DEL', KEYS[4]) end
return 1
