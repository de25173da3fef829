-- Put packed chunks in the place of the loose ones they were made from, if those still stand there. Chunks
-- that were appended meanwhile stay behind them. The digest of what is replaced makes it safe against
-- other packers, deletion and a transcript of the same name begun anew.
-- KEYS  1 chunks  2 index
-- ARGV  1 chunks before them  2 how many are replaced  3 SHA-1 of these, joined  4 how many of the new ones
--       are never to be packed again, then the new ones
-- Gives 1 | 0 when it came too late
local first, count = tonumber(ARGV[1]), tonumber(ARGV[2])
-- Also when the index is gone: half of a transcript is none.
if redis.call('HGET', KEYS[2], 'sealed') ~= ARGV[1] then return 0 end
local chunks = redis.call('LRANGE', KEYS[1], first, -1)
if #chunks < count then return 0 end
local old = table.concat(chunks, '', 1, count)
if redis.sha1hex(old) ~= ARGV[3] then return 0 end

local ttl = redis.call('PTTL', KEYS[1])
if first == 0 then redis.call('DEL', KEYS[1]) else redis.call('LTRIM', KEYS[1], 0, first - 1) end
local packed, loose = 0, 0
for i = 5, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[i])
  packed = packed + #ARGV[i]
  if i - 4 > tonumber(ARGV[4]) then loose = loose + #ARGV[i] end
end
for i = count + 1, #chunks do
  redis.call('RPUSH', KEYS[1], chunks[i])
  loose = loose + #chunks[i]
end
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('HINCRBY', KEYS[2], 'bytes', packed - #old)
redis.call('HSET', KEYS[2], 'loose', loose, 'sealed', first + ARGV[4])
return 1
