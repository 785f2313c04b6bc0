-- Makes a delivery pending again, due now, its schedule from the start. Its log and id stay.
--
-- KEYS  1 delivery hash   2 log list   3 due hosts zset   4 due zset of its host   5 body string
-- ARGV  1 delivery id   2 host   3 lifetime of the body from now (s)   4 milliseconds until the pump looks
-- Returns  the status it had, "running" while an attempt is under way, or "expired" without a body
local state = redis.call('HMGET', KEYS[1], 'status', 'lease_until', 'brief')
if not state[1] or redis.call('EXISTS', KEYS[5]) == 0 then
  return 'expired'
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(state[2] or 0) > now then
  return 'running'
end
redis.call('HSET', KEYS[1], 'status', 'pending', 'tries', 0, 'started_at', now, 'next_at', now)
redis.call('HDEL', KEYS[1], 'ended_at', 'lease_until', 'spared')
-- A deliverer that outlived its lease must not count its late attempt against the new schedule.
redis.call('HINCRBY', KEYS[1], 'fence', 1)
if not state[3] then
  redis.call('PERSIST', KEYS[1])
  redis.call('PERSIST', KEYS[2])
  redis.call('EXPIRE', KEYS[5], ARGV[3])
end
local look = now + tonumber(ARGV[4])
redis.call('ZADD', KEYS[3], 'LT', look, ARGV[2])
redis.call('ZADD', KEYS[4], look, ARGV[1])
return state[1]
