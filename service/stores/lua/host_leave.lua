-- Gives a place back and counts what came of the attempt; opens and closes the host's circuit.
--
-- KEYS  1 attempts in flight zset   2 health hash
-- ARGV  1 name of the place   2 "failed", "fine" or "unknown"   3 milliseconds of going slow, or 0
--       4 attempts needed to judge   5 share of failures that opens (percent)
--       6 window (minutes)   7 milliseconds the circuit stays open
-- Returns  "open", "closed", or "recovered" when this attempt closed the circuit
redis.call('ZREM', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local open_until = redis.call('HGET', KEYS[2], 'open_until')

if ARGV[2] == 'unknown' then
  return open_until and 'open' or 'closed'
end
if ARGV[2] == 'fine' and open_until then
  redis.call('DEL', KEYS[2])
  return 'recovered'
end

local minute = math.floor(now / 60000)
redis.call('HINCRBY', KEYS[2], 'a' .. minute, 1)
if ARGV[2] == 'failed' then
  redis.call('HINCRBY', KEYS[2], 'f' .. minute, 1)
end
if tonumber(ARGV[3]) > 0 then
  redis.call('HSET', KEYS[2], 'slow_until', now + tonumber(ARGV[3]))
end

local attempts, failures = 0, 0
local fields = redis.call('HGETALL', KEYS[2])
for i = 1, #fields, 2 do
  local kind, when = string.match(fields[i], '^([af])(%d+)$')
  if kind then
    if tonumber(when) <= minute - tonumber(ARGV[6]) then
      redis.call('HDEL', KEYS[2], fields[i])
    elseif kind == 'a' then
      attempts = attempts + tonumber(fields[i + 1])
    else
      failures = failures + tonumber(fields[i + 1])
    end
  end
end

local failing = attempts >= tonumber(ARGV[4]) and failures * 100 >= attempts * tonumber(ARGV[5])
local answer = 'closed'
if ARGV[2] == 'failed' and (open_until or failing) then
  redis.call('HSET', KEYS[2], 'open_until', now + tonumber(ARGV[7]))
  answer = 'open'
end
redis.call('PEXPIRE', KEYS[2], (tonumber(ARGV[6]) + 5) * 60000)
return answer
