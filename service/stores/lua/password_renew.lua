-- Replaces the hash of a password by another one of the same password.
-- Calling it again changes nothing.
--
-- KEYS  1 account hash
-- ARGV  1 the hash it has   2 the one it is to have
-- Returns  1 when it was replaced, 0 when the password was changed meanwhile
if redis.call('HGET', KEYS[1], 'password') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'password', ARGV[2])
return 1
