-- Notes that a file of the archive may be there from now on, so that whatever comes of it is deleted in time.
-- The suffix the first one chose stays: the same bytes lie in one place. It counts from now on until it is deleted,
-- whatever becomes of who announces it; the room that was reserved for it in all is free again, that of the account
-- stays reserved until the file is recorded.
--
-- KEYS  1 object hash   2 expiry zset   3 string: bytes of all files   4 zset of reservations
-- ARGV  1 digest   2 suffix   3 lifetime (s)   4 size (bytes)   5 the reservation   6 the same once the file counts
-- Returns  the suffix of the file
redis.call('HSETNX', KEYS[1], 'suffix', ARGV[2])
redis.call('ZADD', KEYS[2], 'NX', redis.call('TIME')[1] + tonumber(ARGV[3]), ARGV[1])
if redis.call('HSETNX', KEYS[1], 'counted', ARGV[4]) == 1 then
  redis.call('INCRBY', KEYS[3], ARGV[4])
end
local ends = redis.call('ZSCORE', KEYS[4], ARGV[5])
if ends then
  redis.call('ZREM', KEYS[4], ARGV[5])
  redis.call('ZADD', KEYS[4], ends, ARGV[6])
end
return redis.call('HGET', KEYS[1], 'suffix')
