-- Takes a request for work under a lease. A worker that comes second sees the lease, or the end.
--
-- KEYS  1 request hash   2 open zset   3 batch hash, of a request that is an item of one
-- ARGV  1 request id   2 lease (ms)
-- Returns  {} when there is nothing to do, else
--          {fence, lease_until ms, {field, value, ...} of the request}
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'queued' and status ~= 'processing' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_until = tonumber(redis.call('HGET', KEYS[1], 'lease_until') or 0)
if status == 'processing' and lease_until > now then
  return {}
end

if status == 'queued' and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('HINCRBY', KEYS[3], 'processing', 1)
  redis.call('HSETNX', KEYS[3], 'started_at', now)
end
lease_until = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'status', 'processing', 'lease_until', lease_until, 'looks', 0)
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('ZADD', KEYS[2], lease_until, ARGV[1])
return {fence, lease_until, redis.call('HGETALL', KEYS[1])}
