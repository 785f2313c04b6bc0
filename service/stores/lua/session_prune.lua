-- Forgets the budgets whose window is over, and until when sessions were put off: of those that went away,
-- and of idle ones.
--
-- KEYS  1 budget hash
-- ARGV  1 longest window (ms)
-- Returns  how many were forgotten
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields, gone = redis.call('HGETALL', KEYS[1]), 0
for index = 1, #fields, 2 do
  local at = tonumber(string.match(fields[index + 1], '^%d+'))
  local over = math.abs(now - at) >= tonumber(ARGV[1])
  if string.sub(fields[index], 1, 2) == 'o:' then
    over = at <= now
  end
  if over then
    redis.call('HDEL', KEYS[1], fields[index])
    gone = gone + 1
  end
end
return gone
