-- Takes back what was counted against an account for tries from the address its owner got in from.
-- Calling it again takes back nothing more.
--
-- KEYS  1 hash of the address   2 string of tries at the account from anywhere
-- ARGV  1 the account (a hash of its address of mail)
-- Returns  how many tries were taken back
local tries = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
redis.call('HDEL', KEYS[1], ARGV[1], 'from:' .. ARGV[1])
local counted = tonumber(redis.call('GET', KEYS[2]) or 0)
if tries > 0 and counted > 0 then
  redis.call('DECRBY', KEYS[2], math.min(tries, counted))
end
return tries
