-- Gives a lock of the archive back, unless it ran out and somebody else has it.
--
-- KEYS  1 lock string
-- ARGV  1 token
-- Returns  1 when it was given back
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
