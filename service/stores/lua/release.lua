-- Gives a claimed request back to whoever comes next, as if it had not been taken up.
--
-- KEYS  1 request hash   2 open zset   3 stats hash   4 batch hash, of a request that is an item of one
-- ARGV  1 request id   2 fence   3 milliseconds until the sweep looks
--       4 1 when it waits for an Instagram session until then, which is counted
-- Returns  1, or 0 when the request has ended or another worker holds it
local state = redis.call('HMGET', KEYS[1], 'status', 'fence')
if state[1] ~= 'processing' or state[2] ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'status', 'queued')
if redis.call('EXISTS', KEYS[4]) == 1 then
  redis.call('HINCRBY', KEYS[4], 'processing', -1)
end
redis.call('HDEL', KEYS[1], 'lease_until')
redis.call('HINCRBY', KEYS[1], 'attempts', -1)
if ARGV[4] == '1' then
  redis.call('HINCRBY', KEYS[1], 'parked', ARGV[3])
  redis.call('HINCRBY', KEYS[3], 'parked', 1)
end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
return 1
