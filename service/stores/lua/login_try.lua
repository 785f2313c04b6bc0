-- Counts a try to log in, unless it is refused. The address it comes from is asked first and ends it: what it
-- tried too often is not counted against anybody. Others who try the same account only slow it, each address
-- for itself: where the next one comes from, it waits from its own first knock on.
--
-- KEYS  1 hash of the address it comes from   2 string of tries at the account from anywhere
-- ARGV  1 the account (a hash of its address of mail)   2 tries from an address   3 tries at one account from an
--       address   4 tries of others that do not slow   5 longest wait (ms)   6 window (ms)   7 1 for a known device
-- Returns  ms to wait, 0 when it may go on
local all = tonumber(redis.call('HGET', KEYS[1], 'all') or 0)
local mine = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
if all >= tonumber(ARGV[2]) or mine >= tonumber(ARGV[3]) then
  return math.max(redis.call('PTTL', KEYS[1]), 1)
end
local over = tonumber(redis.call('GET', KEYS[2]) or 0) - mine - tonumber(ARGV[4])
local wait = 0
if over >= 0 and ARGV[7] ~= '1' then
  wait = math.min(1000 * 2 ^ math.min(over, 20), tonumber(ARGV[5]))
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local refused = 0
if wait > 0 then
  local from = tonumber(redis.call('HGET', KEYS[1], 'from:' .. ARGV[1]) or 0)
  if from > now then
    return from - now
  end
  redis.call('HSET', KEYS[1], 'from:' .. ARGV[1], string.format('%.0f', now + wait))
  refused = from == 0 and wait or 0
end
redis.call('HINCRBY', KEYS[1], 'all', 1) -- a first knock too, or there would be no end of them
if redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
if refused > 0 then
  return refused
end
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('INCR', KEYS[2])
if redis.call('PTTL', KEYS[2]) < 0 then
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
return 0
