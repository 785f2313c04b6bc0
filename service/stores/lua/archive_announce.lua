-- Notes that a file of the archive may be there from now on, so that whatever comes of it is deleted in time.
-- The suffix the first one chose stays: the same bytes lie in one place.
--
-- KEYS  1 object hash   2 expiry zset
-- ARGV  1 digest   2 suffix   3 lifetime (s)
-- Returns  the suffix of the file
redis.call('HSETNX', KEYS[1], 'suffix', ARGV[2])
redis.call('ZADD', KEYS[2], 'NX', redis.call('TIME')[1] + tonumber(ARGV[3]), ARGV[1])
return redis.call('HGET', KEYS[1], 'suffix')
