-- Tells how many attempts a host would take right now.
--
-- KEYS  1 attempts in flight zset   2 health hash
-- ARGV  1 places
-- Returns  {free places, milliseconds to wait when there are none}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local health = redis.call('HMGET', KEYS[2], 'open_until', 'slow_until')
local places = tonumber(ARGV[1])
if health[1] then
  if tonumber(health[1]) > now then
    return {0, tonumber(health[1]) - now}
  end
  places = 1
elseif tonumber(health[2] or 0) > now then
  places = 1
end
local free = places - redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')
if free > 0 then
  return {free, 0}
end
return {0, 1000}
