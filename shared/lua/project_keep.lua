-- A worker has the files of these projects: their records live on, and it hears what became of each.
-- KEYS  for each project: record, tenant's projects
-- ARGV  1 ttl (ms)
-- Gives for each: {state, agent} | {'gone', ''} deleted | {'', ''} nothing is known of it
local answers = {}
for i = 1, #KEYS, 2 do
  local record = redis.call('HMGET', KEYS[i], 'state', 'agent', 'gone')
  if record[1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[1])
    answers[#answers + 1] = {record[1], record[2] or ''}
  else
    answers[#answers + 1] = {record[3] and 'gone' or '', ''}
  end
end
return answers
