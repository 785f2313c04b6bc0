-- Counts a file of the archive that does not count yet: one of the version before.
--
-- KEYS  1 object hash   2 string: bytes of all files
-- ARGV  1 size (bytes)
-- Returns  1 when it counts now and did not before
if redis.call('HGET', KEYS[1], 'size') ~= ARGV[1] or redis.call('HSETNX', KEYS[1], 'counted', ARGV[1]) == 0 then
  return 0
end
redis.call('INCRBY', KEYS[2], ARGV[1])
return 1
