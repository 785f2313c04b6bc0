-- Gives a claimed delivery back without an attempt: its host takes no more right now.
--
-- KEYS  1 delivery hash   2 due hosts zset   3 due zset of its host
-- ARGV  1 delivery id   2 fence   3 host   4 milliseconds until the next look
-- Returns  1, or 0 when another deliverer holds it
local state = redis.call('HMGET', KEYS[1], 'status', 'fence')
if state[1] ~= 'pending' or state[2] ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local look = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[4])
redis.call('HDEL', KEYS[1], 'lease_until')
redis.call('ZADD', KEYS[3], look, ARGV[1])
redis.call('ZADD', KEYS[2], 'LT', look, ARGV[3])
return 1
