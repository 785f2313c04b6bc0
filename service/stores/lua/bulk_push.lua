-- Puts an account's requests into the bulk queue, where accounts take turns whatever each has waiting.
-- Start-time fair queueing: a request's score is the virtual time at which its turn comes; each account's
-- own requests stand one apart, and an account that comes anew starts at the clock's time.
--
-- KEYS  1 queue zset (request id by virtual time)   2 clock hash ("virtual", and each account's next turn)
-- ARGV  1 account id   2.. request ids
-- Returns  how many were not in the queue yet
local virtual = tonumber(redis.call('HGET', KEYS[2], 'virtual') or 0)
local turn = math.max(virtual, tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0))
local added = 0
for index = 2, #ARGV do
  if redis.call('ZADD', KEYS[1], 'NX', turn, ARGV[index]) == 1 then
    turn = turn + 1
    added = added + 1
  end
end
if added > 0 then
  redis.call('HSET', KEYS[2], ARGV[1], turn)
end
return added
