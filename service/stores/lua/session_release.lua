-- Gives a leased session back with what became of it. A token that ran out and was replaced
-- changes nothing. When the secret was replaced meanwhile, the lease ends and nothing is learned:
-- the verdict and the settings belong to the old secret.
-- Calls that were reserved and not made are given back to the windows they were reserved in; calls beyond
-- those are added to the windows of now. A lease that ran out keeps all it reserved.
--
-- KEYS  1 session hash   2 ready zset   3 leases hash   4 counter   5 budget hash
-- ARGV  1 name   2 token   3 version that was used   4 reason of a failure or ""   5 rest (ms)
--       6 "1" for quarantine   7 changed settings (encrypted) or ""   8 calls made, "" for all granted
-- Returns  the version now in force, or 0 when what the worker used is not the session any more:
--          another took the lease, or the secret was replaced, or the session removed
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[3], ARGV[1])

local taken_at, granted, tag = string.match(ARGV[2], '^%d+:(%d+):(%d+):(%x*):%d+$')
local change = taken_at and ARGV[8] ~= '' and ARGV[8] - granted or 0
if change ~= 0 then
  for _, whose in ipairs({'s:' .. ARGV[1], 'p:' .. tag}) do
    for _, window in ipairs({':60', ':3600'}) do
      local start, count = string.match(redis.call('HGET', KEYS[5], whose .. window) or '', '^(%d+):(%d+)$')
      if start and (change > 0 or tonumber(start) <= tonumber(taken_at)) then
        redis.call('HSET', KEYS[5], whose .. window, start .. ':' .. math.max(count + change, 0))
      end
    end
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local old = redis.call('HMGET', KEYS[1], 'state', 'rested_until', 'version', 'failure')
local state, rested_until, version = old[1], tonumber(old[2]), old[3]
redis.call('HINCRBY', KEYS[1], 'uses', 1)
redis.call('HSET', KEYS[1], 'last_used', now)

local learn = version == ARGV[3]
if learn and ARGV[7] ~= '' then
  version = redis.call('INCR', KEYS[4])
  redis.call('HSET', KEYS[1], 'settings', ARGV[7], 'version', version)
end
if learn and ARGV[4] == '' then
  redis.call('HSET', KEYS[1], 'failure', '', 'failures', 0)
elseif learn then
  if old[4] ~= ARGV[4] then
    redis.call('HSET', KEYS[1], 'failure', ARGV[4], 'failures', 0)
  end
  redis.call('HINCRBY', KEYS[1], 'failures', 1)
end

-- A person may have rested or quarantined it while it was held; that is kept.
local rest_until = now + tonumber(ARGV[5])
if state == 'quarantined' then
  -- not ready, and stays so
elseif learn and ARGV[6] == '1' then
  redis.call('HSET', KEYS[1], 'state', 'quarantined', 'reason', ARGV[4], 'rested_until', 0)
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif learn and rest_until > math.max(now, rested_until) then
  redis.call('HSET', KEYS[1], 'state', 'resting', 'reason', ARGV[4], 'rested_until', rest_until)
  redis.call('ZADD', KEYS[2], rest_until, ARGV[1])
elseif rested_until > now then
  redis.call('ZADD', KEYS[2], rested_until, ARGV[1])
else
  redis.call('HSET', KEYS[1], 'state', 'active', 'reason', '', 'rested_until', 0)
  redis.call('ZADD', KEYS[2], now, ARGV[1])
end
return learn and tonumber(version) or 0
