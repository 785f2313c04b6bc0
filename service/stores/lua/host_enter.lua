-- Asks for one of a host's places for an attempt, over all deliverers. Who asks again has it still.
--
-- KEYS  1 attempts in flight zset (place by end of lease)   2 health hash
-- ARGV  1 name of the place   2 places   3 lease (ms)
-- Returns  0 when the place is taken, else milliseconds to wait
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) > now then
  return 0 -- the reply to this very call was lost
end
local health = redis.call('HMGET', KEYS[2], 'open_until', 'slow_until')
local places = tonumber(ARGV[2])
if health[1] then
  if tonumber(health[1]) > now then
    return tonumber(health[1]) - now
  end
  places = 1 -- the circuit is open and its time is up: one probe
elseif tonumber(health[2] or 0) > now then
  places = 1
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= places then
  return 1000
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 0
