-- Takes the requests out of the bulk queue whose turn it is, and sets the clock to the last of them.
--
-- KEYS  1 queue zset   2 clock hash   3 string: workers were called
-- ARGV  1 how many at most
-- Returns  {request id, ...}
redis.call('DEL', KEYS[3])
local taken = redis.call('ZPOPMIN', KEYS[1], ARGV[1])
local ids = {}
for index = 1, #taken, 2 do
  ids[#ids + 1] = taken[index]
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2]) -- nobody waits: nobody is ahead of anybody
elseif #taken > 0 then
  redis.call('HSET', KEYS[2], 'virtual', taken[#taken])
end
return ids
