-- Pauses a watch, or resumes it: then its next run is due at once.
-- A watch that is in that state already keeps its reason and its times.
--
-- KEYS  1 watch hash   2 watching zset
-- ARGV  1 watch id   2 "paused" or "active"   3 why it is paused, or ""   4 milliseconds until the sweep looks
-- Returns  {field, value, ...} of the watch, {} when there is none
local status = redis.call('HGET', KEYS[1], 'status')
if not status then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {}
end
if status ~= ARGV[2] then
  redis.call('HSET', KEYS[1], 'status', ARGV[2])
  if ARGV[2] == 'paused' then
    redis.call('HSET', KEYS[1], 'pause_reason', ARGV[3])
    redis.call('HDEL', KEYS[1], 'next_run_at')
    redis.call('ZREM', KEYS[2], ARGV[1])
  else
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('HSET', KEYS[1], 'next_run_at', now, 'resumed_at', now)
    redis.call('HDEL', KEYS[1], 'pause_reason', 'unpaid', 'unpaid_run')
    redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]), ARGV[1])
  end
end
return redis.call('HGETALL', KEYS[1])
