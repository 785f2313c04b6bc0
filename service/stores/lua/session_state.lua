-- Rests, quarantines or resumes a session by hand. A worker that holds it keeps its lease.
--
-- KEYS  1 session hash   2 ready zset   3 leases hash
-- ARGV  1 name   2 new state   3 reason or ""   4 rest (ms)
-- Returns  1, or 0 when there is no such session
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HGET', KEYS[3], ARGV[1])
local lease_until = lease and tonumber(string.match(lease, '%d+$')) or 0
local free_at = now + tonumber(ARGV[4])

redis.call('HSET', KEYS[1], 'state', ARGV[2], 'reason', ARGV[3],
  'rested_until', ARGV[2] == 'resting' and free_at or 0)
if ARGV[2] == 'quarantined' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], math.max(free_at, lease_until), ARGV[1])
end
if ARGV[2] == 'active' then
  redis.call('HSET', KEYS[1], 'failure', '', 'failures', 0)
end
return 1
