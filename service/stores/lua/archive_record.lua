-- Notes that a file of the archive is there and whose it is, and prolongs its life; the lock on it ends.
-- Under which names its owner was seen is kept beside it: an opt-out by name finds the files by that.
-- It counts for the account that asked for it, once, and once in all; the room that was reserved is free again.
--
-- KEYS  1 lock string   2 object hash   3 expiry zset   4 owners set   5 set of the owner's files
--       6 string of the item's media   7 zset of the names of all owners   8 set of the owner's names
--       9 string: bytes of all files   10 zset of reservations   11 zset of the account's files
--       12 string: bytes of these   13 set of the accounts that asked for the file
-- ARGV  1 token of the lock   2 digest   3 size (bytes)   4 lifetime (s)   5 owner   6 name of the file
--       7 the reservation   8 the same once the file counts   9 account id   10.. name of the owner
-- Returns  the end of its life (Unix s), never earlier than it was; 0 when another holds the lock
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local now = tonumber(redis.call('TIME')[1])
redis.call('HSET', KEYS[2], 'size', ARGV[3])
if redis.call('HSETNX', KEYS[2], 'counted', ARGV[3]) == 1 then
  redis.call('INCRBY', KEYS[9], ARGV[3])
end
redis.call('ZADD', KEYS[3], 'GT', now + tonumber(ARGV[4]), ARGV[2])
local ends = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[2]))
redis.call('SADD', KEYS[4], ARGV[5])
redis.call('SADD', KEYS[5], ARGV[2])
redis.call('SET', KEYS[6], ARGV[6], 'EXAT', ends)
redis.call('ZREM', KEYS[10], ARGV[7], ARGV[8])
local mine = ARGV[2] .. ':' .. ARGV[3]
if not redis.call('ZSCORE', KEYS[11], mine) then
  redis.call('INCRBY', KEYS[12], ARGV[3])
end
redis.call('ZADD', KEYS[11], 'GT', ends, mine)
-- Past the last of its files nothing counts; GT alone does not give a key its first end.
for index = 11, 12 do
  if redis.call('TTL', KEYS[index]) < 0 then
    redis.call('EXPIREAT', KEYS[index], ends + 86400)
  else
    redis.call('EXPIREAT', KEYS[index], ends + 86400, 'GT')
  end
end
redis.call('SADD', KEYS[13], ARGV[9])
for index = 10, #ARGV do
  redis.call('ZADD', KEYS[7], 0, ARGV[index] .. ' ' .. ARGV[5])
  redis.call('SADD', KEYS[8], ARGV[index])
end
redis.call('DEL', KEYS[1])
return ends
