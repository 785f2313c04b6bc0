-- Leaves out a run of a watch whose account is disabled, and plans the next one: so the watch goes on when the
-- account is enabled again.
--
-- KEYS  1 account hash   2 watch hash   3 watching zset
-- ARGV  1 watch id   2 milliseconds until the watch's next run   3 milliseconds from then until the sweep looks
-- Returns  1 when the account is disabled, else 0: then nothing is changed
if redis.call('HGET', KEYS[1], 'disabled') ~= '1' then
  return 0
end
if redis.call('HGET', KEYS[2], 'status') == 'active' then
  local time = redis.call('TIME')
  local following = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
  redis.call('HSET', KEYS[2], 'next_run_at', following)
  redis.call('ZADD', KEYS[3], following + tonumber(ARGV[3]), ARGV[1])
end
return 1
