-- Changes a balance by hand: a top-up or an adjustment, one ledger entry.
-- Calling it again with the same entry name changes nothing, so a lost reply may be retried.
--
-- KEYS  1 credits hash   2 ledger stream
-- ARGV  1 amount (credits, may be negative)   2 entry type   3 note   4 unique name of this change
--       5 the most an amount and a balance may be (credits)
-- Returns  {"ok", balance, held},  {"poor", available},  {"over", balance}: the amount or what would come of it is
--          too much,  or {"broken", ""}: what stands there is no number that can be counted with
-- @include credits
local balance, held = credits_of(KEYS[1])
if not balance then
  return {'broken', ''}
end
if redis.call('HGET', KEYS[1], 'last_change') == ARGV[4] then
  return {'ok', balance, held}
end
local amount, most = whole(ARGV[1]), tonumber(ARGV[5])
if not amount or math.abs(amount) > most or (amount > 0 and balance + amount > most) then
  return {'over', balance}
end
if balance + amount < held then
  return {'poor', balance - held}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'balance', balance + amount, 'held', held, 'last_change', ARGV[4])
redis.call('XADD', KEYS[2], '*', 'type', ARGV[2], 'amount', amount,
  'balance', balance + amount, 'held', held, 'note', ARGV[3], 'at', now)
return {'ok', balance + amount, held}
