-- The sessions of a project whose transcripts have not lapsed.
-- KEYS  1 mtimes  2 expiries
-- Gives {session, last append (ms), …}
local now = now_ms()
repeat until sweep(KEYS[1], KEYS[2], now, 1000) < 1000
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
