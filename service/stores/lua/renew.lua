-- Prolongs the lease of the worker that holds it.
--
-- KEYS  1 request hash   2 open zset
-- ARGV  1 request id   2 fence   3 lease (ms)
-- Returns  1, or 0 when the request has ended or another worker holds it
local state = redis.call('HMGET', KEYS[1], 'status', 'fence')
if state[1] ~= 'processing' or state[2] ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local lease_until = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'lease_until', lease_until)
redis.call('ZADD', KEYS[2], lease_until, ARGV[1])
return 1
