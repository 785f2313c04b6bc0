-- Takes a due delivery for one attempt, under a lease.
--
-- KEYS  1 delivery hash   2 due zset of its host
-- ARGV  1 delivery id   2 lease (ms)
-- Returns  {} when it is not due, done, or held by another, else
--          {fence, {field, value, ...} of the delivery}
local state = redis.call('HMGET', KEYS[1], 'status', 'next_at', 'lease_until')
if state[1] ~= 'pending' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(state[2]) > now or tonumber(state[3] or 0) > now then
  return {}
end
local lease_until = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'lease_until', lease_until)
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('ZADD', KEYS[2], lease_until, ARGV[1])
return {fence, redis.call('HGETALL', KEYS[1])}
