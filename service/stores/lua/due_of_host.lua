-- Hands out due deliveries of one host, and says when to look at the host again.
--
-- KEYS  1 due hosts zset   2 due zset of the host
-- ARGV  1 host   2 how many at most   3 milliseconds for which those handed out are kept from others
--       4 milliseconds until the next look at the host at the earliest
-- Returns  {delivery id, ...}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = {}
if tonumber(ARGV[2]) > 0 then
  ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
end
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), id)
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if first[1] then
  redis.call('ZADD', KEYS[1], math.max(tonumber(first[2]), now + tonumber(ARGV[4])), ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return ids
