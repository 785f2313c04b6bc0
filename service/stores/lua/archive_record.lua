-- Notes that a file of the archive is there and whose it is, and prolongs its life; the lock on it ends.
-- Under which names its owner was seen is kept beside it: an opt-out by name finds the files by that.
--
-- KEYS  1 lock string   2 object hash   3 expiry zset   4 owners set   5 set of the owner's files
--       6 string of the item's media   7 zset of the names of all owners   8 set of the owner's names
-- ARGV  1 token of the lock   2 digest   3 size (bytes)   4 lifetime (s)   5 owner   6 name of the file
--       7.. name of the owner
-- Returns  the end of its life (Unix s), never earlier than it was; 0 when another holds the lock
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local now = tonumber(redis.call('TIME')[1])
redis.call('HSET', KEYS[2], 'size', ARGV[3])
redis.call('ZADD', KEYS[3], 'GT', now + tonumber(ARGV[4]), ARGV[2])
local ends = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[2]))
redis.call('SADD', KEYS[4], ARGV[5])
redis.call('SADD', KEYS[5], ARGV[2])
redis.call('SET', KEYS[6], ARGV[6], 'EXAT', ends)
for index = 7, #ARGV do
  redis.call('ZADD', KEYS[7], 0, ARGV[index] .. ' ' .. ARGV[5])
  redis.call('SADD', KEYS[8], ARGV[index])
end
redis.call('DEL', KEYS[1])
return ends
