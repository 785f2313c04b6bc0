-- Puts an account's requests into the bulk queue, where accounts take turns whatever each has waiting.
-- Start-time fair queueing: a request's score is the virtual time at which its turn comes; each account's
-- own requests stand one apart, and an account that comes anew starts at the clock's time.
--
-- A single request needs no call of its own when workers were called and none has come yet: whoever comes
-- takes it along. Several may want several workers.
--
-- KEYS  1 queue zset (request id by virtual time)   2 clock hash ("virtual", and each account's next turn)
--       3 string: workers were called
-- ARGV  1 account id   2 milliseconds after which a call that nobody followed counts as lost   3.. request ids
-- Returns  for how many requests workers are to be called; those that stood in the queue already do not count
local virtual = tonumber(redis.call('HGET', KEYS[2], 'virtual') or 0)
local turn = math.max(virtual, tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0))
local added = 0
for index = 3, #ARGV do
  if redis.call('ZADD', KEYS[1], 'NX', turn, ARGV[index]) == 1 then
    turn = turn + 1
    added = added + 1
  end
end
if added > 0 then
  redis.call('HSET', KEYS[2], ARGV[1], turn)
  local first = redis.call('SET', KEYS[3], 1, 'NX', 'PX', ARGV[2])
  if added == 1 and not first then
    return 0
  end
end
return added
