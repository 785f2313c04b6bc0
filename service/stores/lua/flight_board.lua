-- Begins the one fetch of a reel, or joins those who wait for it.
--
-- KEYS  1 flight string   2 waiting set
-- ARGV  1 token   2 lease (ms)   3 id of the request
-- Returns  Unix ms when the caller is to fetch, 0 when somebody does already
local token = redis.call('GET', KEYS[1])
if token and token ~= ARGV[1] then
  redis.call('SADD', KEYS[2], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[2] * 2)
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
