-- Drops what is known of a file of the archive that was deleted.
--
-- KEYS  1 lock string   2 object hash   3 expiry zset   4 owners set   5.. sets of its owners' files
-- ARGV  1 token of the lock   2 digest
-- Returns  1, or 0 when another holds the lock
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('DEL', KEYS[4])
for index = 5, #KEYS do
  redis.call('SREM', KEYS[index], ARGV[2])
end
return 1
