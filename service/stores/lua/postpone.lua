-- Counts a look at an open request for which work was published, and says when to look again:
-- each time after twice the wait. A claim starts the count anew.
--
-- KEYS  1 request hash   2 open zset
-- ARGV  1 request id   2 wait after the first look (ms)   3 longest wait (ms)
-- Returns  how often it was looked at in vain, or 0 when it has ended
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'queued' and status ~= 'processing' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
local looks = redis.call('HINCRBY', KEYS[1], 'looks', 1)
local wait = math.min(tonumber(ARGV[2]) * 2 ^ (looks - 1), tonumber(ARGV[3]))
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + wait, ARGV[1])
return looks
