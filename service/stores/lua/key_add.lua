-- Puts an API key on the list of an account that has not too many of them.
-- Calling it again with the same id changes nothing.
--
-- KEYS  1 the account's keys set
-- ARGV  1 key id   2 how many keys an account may have
-- Returns  1 when it is on the list, 0 when the account has too many
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then
  return 1
end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('SADD', KEYS[1], ARGV[1])
return 1
