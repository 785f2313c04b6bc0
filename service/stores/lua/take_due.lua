-- Lists what is due in a zset of next looks, and postpones the next look at each,
-- so that several callers at once do not all get the same.
--
-- KEYS  1 zset of ids scored by the time of their next look (ms)
-- ARGV  1 how many at most   2 milliseconds until the next look
-- Returns  {id, ...}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), id)
end
return ids
