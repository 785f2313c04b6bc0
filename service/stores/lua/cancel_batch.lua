-- Marks a batch as cancelled, unless all of its items have ended.
--
-- KEYS  1 batch hash
-- ARGV  none
-- Returns  1 when it is marked, now or before, else 0
local left = tonumber(redis.call('HGET', KEYS[1], 'left') or 0)
if left > 0 then
  local time = redis.call('TIME')
  redis.call('HSETNX', KEYS[1], 'cancelled_at', time[1] * 1000 + math.floor(time[2] / 1000))
end
return redis.call('HEXISTS', KEYS[1], 'cancelled_at')
