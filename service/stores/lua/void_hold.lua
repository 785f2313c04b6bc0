-- Releases a hold that belongs to nothing: its request is gone, or has ended without settling it.
--
-- KEYS  1 request hash   2 credits hash   3 ledger stream   4 stats hash
-- ARGV  1 request id   2 amount (credits)
-- Calling it again for the same request changes nothing.
-- Returns  1, or 0 when the request is open or less than the amount is held
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'queued' or status == 'processing' then
  return 0
end
if redis.call('HEXISTS', KEYS[2], 'voided:' .. ARGV[1]) == 1 then
  return 1
end
local balance = tonumber(redis.call('HGET', KEYS[2], 'balance') or 0)
local held = tonumber(redis.call('HGET', KEYS[2], 'held') or 0)
local amount = tonumber(ARGV[2])
if held < amount then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[2], 'held', held - amount, 'voided:' .. ARGV[1], amount)
redis.call('XADD', KEYS[3], '*', 'type', 'release', 'amount', amount, 'balance', balance,
  'held', held - amount, 'request', ARGV[1], 'note', 'released by audit', 'at', now)
redis.call('HINCRBY', KEYS[4], 'held', -amount)
return 1
