-- Forgets the budgets whose window is over: those of sessions and proxies that went away, and of idle ones.
--
-- KEYS  1 budget hash
-- ARGV  1 longest window (ms)
-- Returns  how many were forgotten
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields, gone = redis.call('HGETALL', KEYS[1]), 0
for index = 1, #fields, 2 do
  local start = tonumber(string.match(fields[index + 1], '^%d+'))
  if math.abs(now - start) >= tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], fields[index])
    gone = gone + 1
  end
end
return gone
