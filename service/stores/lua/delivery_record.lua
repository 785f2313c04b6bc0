-- Records an attempt and what follows it: the end, or the time of the next one.
-- Only the holder of the newest fence may record. Calling it again changes nothing.
--
-- KEYS  1 delivery hash   2 log list   3 due hosts zset   4 due zset of its host   5 stats hash
-- ARGV  1 delivery id   2 fence   3 new status   4 wait until the next attempt (ms)
--       5 the attempt (JSON)   6 lifetime after the end (s)   7 duration of the attempt (s)
--       8 1 when it counts against the schedule   9 host   10 channel of who waits for this attempt
--       11 milliseconds for which the hint below is kept from others
-- Returns  {"ok", id of another delivery of this host that is due, or ""}
--          or {"lost", ""} when another deliverer holds it
local state = redis.call('HMGET', KEYS[1], 'status', 'fence', 'recorded', 'brief')
if state[2] ~= ARGV[2] then
  return {'lost', ''}
end
if state[3] == ARGV[2] then
  return {'ok', ''} -- the reply to this very call was lost
end
if state[1] ~= 'pending' then
  return {'lost', ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HINCRBY', KEYS[1], 'tries', ARGV[8])
if ARGV[8] == '0' then
  redis.call('HINCRBY', KEYS[1], 'spared', 1)
end
redis.call('HSET', KEYS[1], 'status', ARGV[3], 'recorded', ARGV[2])
redis.call('HDEL', KEYS[1], 'lease_until')
redis.call('RPUSH', KEYS[2], ARGV[5])
redis.call('LTRIM', KEYS[2], -30, -1) -- it may be replayed without end
if ARGV[3] == 'pending' then
  local next_at = now + tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'next_at', next_at)
  redis.call('ZADD', KEYS[4], next_at, ARGV[1])
  redis.call('ZADD', KEYS[3], 'LT', next_at, ARGV[9])
else
  redis.call('HSET', KEYS[1], 'ended_at', now)
  redis.call('ZREM', KEYS[4], ARGV[1])
  if not state[4] then
    redis.call('EXPIRE', KEYS[1], ARGV[6])
    redis.call('EXPIRE', KEYS[2], ARGV[6])
  end
end
if state[4] then -- what was cancelled goes when it was to go
  redis.call('PEXPIRE', KEYS[2], math.max(redis.call('PTTL', KEYS[1]), 1))
end

local result = ARGV[3]
if result == 'pending' then
  result = 'failed'
end
redis.call('HINCRBY', KEYS[5], 'delivery:' .. result, 1)
local seconds = tonumber(ARGV[7])
redis.call('HINCRBYFLOAT', KEYS[5], 'attempt_seconds_sum', seconds)
for _, bound in ipairs({0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15}) do
  if seconds <= bound then
    redis.call('HINCRBY', KEYS[5], 'attempt_seconds:' .. bound, 1)
    break
  end
end
redis.call('PUBLISH', ARGV[10], ARGV[3])

local waiting = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 1)
if waiting[1] then
  redis.call('ZADD', KEYS[4], now + tonumber(ARGV[11]), waiting[1])
  return {'ok', waiting[1]}
end
return {'ok', ''}
