-- Makes a queued request wait for a time, because no session is free to fetch it with. The sweep publishes
-- it then. A second call for the same wait changes nothing, so a lost reply may be retried.
--
-- KEYS  1 request hash   2 open zset   3 stats hash
-- ARGV  1 request id   2 how long it has waited so already, as the caller knows it (ms)   3 how long (ms)
-- Returns  1, or 0 when it is not queued any more or waits already
local state = redis.call('HMGET', KEYS[1], 'status', 'parked')
if state[1] ~= 'queued' or tonumber(state[2] or 0) ~= tonumber(ARGV[2]) then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- It was worked on just now, by whoever found no session: no look was in vain.
redis.call('HSET', KEYS[1], 'parked', ARGV[2] + ARGV[3], 'looks', 0)
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
redis.call('HINCRBY', KEYS[3], 'parked', 1)
return 1
