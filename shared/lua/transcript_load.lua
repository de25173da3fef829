-- Read a transcript and keep its session alive; one step, so that it cannot lapse or be packed in between.
-- KEYS  1 chunks  2 index  3 session's subpaths  4 project's mtimes  5 project's expiries
-- ARGV  1 prefix of the session's names  2 session  3 ttl (ms)  4 digest of a uuid it must hold or ''
-- Gives its chunks; {} when there is none or it does not hold the uuid
if redis.call('EXISTS', KEYS[1]) + redis.call('EXISTS', KEYS[2]) < 2 then return {} end
if ARGV[4] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[4]) == 0 then return {} end
touch(KEYS, ARGV[1], ARGV[2], tonumber(ARGV[3]), now_ms())
return redis.call('LRANGE', KEYS[1], 0, -1)
