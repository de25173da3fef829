-- Ask for a batch's end; whoever sees to it hears of it when it renews.
-- KEYS  1 batch record
-- Gives {1 asked now or before | 0 too late | -1 there is no such batch, status}
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {-1, ''} end
if status == 'cancelling' then return {1, status} end
if status ~= 'validating' and status ~= 'in_progress' then return {0, status} end
redis.call('HSET', KEYS[1], 'status', 'cancelling', 'cancelling_at', now_ms())
return {1, 'cancelling'}
