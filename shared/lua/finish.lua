-- End a run, once. Only the newest attempt may: a worker that lost its lease and wakes late changes nothing.
-- KEYS  1 run record  2 events  3 queue  4 job body  5 lease  6 start count
-- ARGV  1 run id  2 attempt  3 terminal state  4 terminal event  5 retention (ms)
--       6 what it used  7 number of the last event that its worker has said  8 '1': end it though the log lacks it
-- Gives 1 when this call ended the run, -1 when the log has not got so far (a replica has taken over that did
-- not, and the worker is to say it again), else 0
local record = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if record[1] ~= 'running' or record[2] ~= ARGV[2] then return 0 end
if ARGV[8] ~= '1' and last_number(KEYS[2]) < tonumber(ARGV[7]) then return -1 end
end_run(KEYS, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]))
return 1
