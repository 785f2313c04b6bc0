-- Records an attempt and what follows it: the end, or the time of the next one.
-- Only the holder of the newest fence may record.
--
-- KEYS  1 delivery hash   2 due zset   3 log list   4 stats hash
-- ARGV  1 delivery id   2 fence   3 new status   4 wait until the next attempt (ms)
--       5 the attempt (JSON)   6 lifetime after the end (s)   7 duration of the attempt (s)
-- Returns  1, or 0 when another deliverer holds it
local state = redis.call('HMGET', KEYS[1], 'status', 'fence', 'recorded')
if state[2] ~= ARGV[2] then
  return 0
end
if state[3] == ARGV[2] then
  return 1 -- the reply to this very call was lost
end
if state[1] ~= 'pending' then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HSET', KEYS[1], 'status', ARGV[3], 'recorded', ARGV[2])
redis.call('HDEL', KEYS[1], 'lease_until')
redis.call('RPUSH', KEYS[3], ARGV[5])
if ARGV[3] == 'pending' then
  local next_at = now + tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'next_at', next_at)
  redis.call('ZADD', KEYS[2], next_at, ARGV[1])
else
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('EXPIRE', KEYS[1], ARGV[6])
  redis.call('EXPIRE', KEYS[3], ARGV[6])
end
local result = ARGV[3]
if result == 'pending' then
  result = 'failed'
end
redis.call('HINCRBY', KEYS[4], 'delivery:' .. result, 1)
redis.call('HINCRBYFLOAT', KEYS[4], 'delivery_seconds_sum', ARGV[7])
return 1
