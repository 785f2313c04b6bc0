-- Adds an Instagram session, or gives one a new secret and makes it active again.
-- A worker that holds it keeps its lease, so that an account never has two holders.
--
-- KEYS  1 session hash   2 ready zset   3 leases hash   4 set of names   5 counter
--       6 hash of the proxies' tags by name
-- ARGV  1 name   2 settings (encrypted)   3 proxy (encrypted) or ""   4 the proxy's tag or ""
-- Returns  the session's new version; versions are never used twice, not even after a removal
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local version = redis.call('INCR', KEYS[5])
local lease = redis.call('HGET', KEYS[3], ARGV[1])
local lease_until = lease and tonumber(string.match(lease, '%d+$')) or 0

redis.call('HSET', KEYS[1],
  'state', 'active', 'reason', '', 'rested_until', 0, 'settings', ARGV[2], 'proxy', ARGV[3],
  'version', version, 'failure', '', 'failures', 0)
redis.call('HSETNX', KEYS[1], 'added_at', now)
redis.call('SADD', KEYS[4], ARGV[1])
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[6], ARGV[1])
else
  redis.call('HSET', KEYS[6], ARGV[1], ARGV[4])
end
-- Never used comes before least recently used.
redis.call('ZADD', KEYS[2], lease_until > now and lease_until or 0, ARGV[1])
return version
