-- Accept a run whose answer is known, and end it: to its readers it is a run like any other. Nothing waits
-- and nothing is spent, so of its key's limits only those on requests count.
-- KEYS  1 run record  2 events  3 tenant's runs  4 all runs
-- ARGV  1 run id  2 retention (ms)  3 tenant  4 agent  5 prefix of usage  6 prefix of run records
--       7 API key's id or ''  8 account  9 what else is known of the run  10 the most runs of a list
--       11 how many limits follow, then the limits, then the events
-- Gives {1 accepted | 0 id exists | -2 beyond a limit, now (ms), 0}; with a key as `submit`
local now = now_ms()
if redis.call('EXISTS', KEYS[1]) == 1 then return {0, now, 0} end
local answer, last = {1, now, 0}, 11 + tonumber(ARGV[11])
if ARGV[7] ~= '' then
  local limits = {}
  for i = 12, last do limits[#limits + 1] = tonumber(ARGV[i]) end
  local refused, s = reserve(ARGV[8], now, ARGV[6], ARGV[1], 0, limits, tonumber(ARGV[2]))
  answer = {refused == '' and 1 or -2, now, 0, refused, cjson.encode(s)}
  if refused ~= '' then return answer end
end
redis.call('HSET', KEYS[1], 'state', 'completed', 'created', now, 'ended', now, 'attempt', 1,
  'tenant', ARGV[3], 'agent', ARGV[4], 'key', ARGV[7], 'usage', ARGV[5], 'about', ARGV[9], 'end', ARGV[#ARGV])
for i = last + 1, #ARGV do append(KEYS[2], 1, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
list_run({KEYS[3], KEYS[4]}, ARGV[1], now, tonumber(ARGV[2]), ARGV[6], tonumber(ARGV[10]))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
settle(KEYS[1], ARGV[1], 'completed', '0 0 0 0 0')
return answer
