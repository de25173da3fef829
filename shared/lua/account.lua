-- Read how an API key stands, with the counters of past windows at 0.
-- KEYS  1 account
-- Gives {now (ms), the counters as JSON}
local now = now_ms()
local s = standing(KEYS[1], now)
s.runs, s.waiting = redis.call('ZCARD', KEYS[1] .. ':runs'), redis.call('ZCARD', KEYS[1] .. ':waiting')
return {now, cjson.encode(s)}
