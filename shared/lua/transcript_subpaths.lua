-- The subpaths of a session whose transcripts are there.
-- KEYS  1 session's subpaths
-- ARGV  1 prefix of the session's names
local there = {}
for _, subpath in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. subpath .. ':chunks') == 1 then there[#there + 1] = subpath end
end
return there
