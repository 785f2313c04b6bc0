-- Puts an account's requests into the bulk queue, where accounts take turns whatever each has waiting.
-- Start-time fair queueing: a request's score is the virtual time at which its turn comes; each account's
-- own requests stand one apart, and an account that comes anew starts at the clock's time.
--
-- A single request needs no call of its own when workers were called and none has come yet: whoever comes
-- takes it along. Several may want several workers.
--
-- queue     zset (request id by virtual time)
-- clock     hash ("virtual", and each account's next turn)
-- called    string: workers were called
-- lifetime  milliseconds after which a call that nobody followed counts as lost
-- Returns  for how many requests workers are to be called; those that stood in the queue already do not count
local function enqueue(queue, clock, called, lifetime, account, requests)
  local turns = redis.call('HMGET', clock, 'virtual', account)
  local turn = math.max(tonumber(turns[1] or 0), tonumber(turns[2] or 0))
  local added = 0
  for _, request in ipairs(requests) do
    if redis.call('ZADD', queue, 'NX', turn, request) == 1 then
      turn = turn + 1
      added = added + 1
    end
  end
  if added > 0 then
    redis.call('HSET', clock, account, turn)
    local first = redis.call('SET', called, 1, 'NX', 'PX', lifetime)
    if added == 1 and not first then
      return 0
    end
  end
  return added
end
