-- Accept a batch: its record, its place in the tenant's list, and among those to be seen to, at once; or find
-- the one that the same request made before.
-- KEYS  1 batch record  2 tenant's batches  3 open batches  4 the request's name (`shared/repeats.py`)
-- ARGV  1 ttl (ms)  2 batch id  3 member of the open batches  4 how long it may take (ms)
--       5 kind of repeat, '' for none  6 digest of what was asked  7 ttl of its name (ms)  8.. fields and values
-- Gives {1 accepted | 0 made before | -1 refused: its key stands for something else, batch id}
local now, ttl, kind = now_ms(), tonumber(ARGV[1]), ARGV[5]
local is_other, known = object_before(KEYS[4], kind, ARGV[6], 'batch')
if is_other then return {-1, ''} end
if known then return {known == ARGV[2] and 1 or 0, known} end
if redis.call('EXISTS', KEYS[1]) == 1 then return {1, ARGV[2]} end -- said again: its answer was lost
remember_object(KEYS[4], kind, ARGV[6], ARGV[7], 'batch', ARGV[2])
redis.call('HSET', KEYS[1], 'created', now, 'status', 'validating', 'epoch', 0, 'expires', now + ARGV[4],
  'total', 0, 'completed', 0, 'failed', 0, unpack(ARGV, 8))
redis.call('PEXPIRE', KEYS[1], ttl)
enlist(KEYS[2], ARGV[2], now, ttl)
redis.call('ZADD', KEYS[3], now, ARGV[3])
redis.call('PEXPIRE', KEYS[3], ttl)
return {1, ARGV[2]}
