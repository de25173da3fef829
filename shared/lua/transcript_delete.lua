-- Delete one transcript; a session's main one takes all others of the session and its place in the project's
-- lists with it. One step, so that no reader sees half a session.
-- KEYS  1 chunks  2 index  3 session's subpaths  4 project's mtimes  5 project's expiries
-- ARGV  1 prefix of the session's names  2 session  3 subpath or ''
redis.call('UNLINK', KEYS[1], KEYS[2])
if ARGV[3] ~= '' then
  redis.call('SREM', KEYS[3], ARGV[3])
  return
end
for _, subpath in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local prefix = ARGV[1] .. subpath .. ':'
  redis.call('UNLINK', prefix .. 'chunks', prefix .. 'index')
end
redis.call('UNLINK', KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[2])
redis.call('ZREM', KEYS[5], ARGV[2])
