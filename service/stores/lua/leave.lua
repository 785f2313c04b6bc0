-- Puts off the next look at open requests that wait their turn elsewhere; what has ended stays out.
--
-- KEYS  1 open zset
-- ARGV  1 milliseconds until the next look   2.. request ids
-- Returns  how many are open
local time = redis.call('TIME')
local look = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local open = 0
for index = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[index]) then
    redis.call('ZADD', KEYS[1], look, ARGV[index])
    open = open + 1
  end
end
return open
