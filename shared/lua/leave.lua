-- One reader fewer for the runs of an answer that several may read.
-- KEYS  run records
for _, run in ipairs(KEYS) do
  if tonumber(redis.call('HGET', run, 'readers') or 0) > 0 then redis.call('HINCRBY', run, 'readers', -1) end
end
return 1
