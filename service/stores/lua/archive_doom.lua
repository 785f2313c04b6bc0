-- Notes that a file of the archive is going to be deleted: it counts as missing from now on. Prolongs the lock.
-- The rest of the entry stays until the file is gone, so that a deletion that was cut off is made up for; until then
-- the file takes its room.
-- A file that stays for others leaves its owner: if it was the last one, the owner's names go.
--
-- KEYS  1 lock string   2 object hash   3 expiry zset   4 owners set   5 zset of the names of all owners
--       6 set of the owner's files   7 set of the owner's names
-- ARGV  1 token of the lock   2 lease (ms)   3 digest   4 the one owner for whose sake, "" when its time is over
-- Returns  the suffix of the file; "" when it stays, or when another holds the lock
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return ''
end
local ends = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[3]) or '0')
if ARGV[4] == '' then
  if ends > tonumber(redis.call('TIME')[1]) then
    return ''
  end
else
  redis.call('SREM', KEYS[4], ARGV[4])
  if redis.call('SCARD', KEYS[4]) > 0 then
    redis.call('SREM', KEYS[6], ARGV[3])
    if redis.call('EXISTS', KEYS[6]) == 0 then
      for _, name in ipairs(redis.call('SMEMBERS', KEYS[7])) do
        redis.call('ZREM', KEYS[5], name .. ' ' .. ARGV[4])
      end
      redis.call('DEL', KEYS[7])
    end
    return ''
  end
end
redis.call('HDEL', KEYS[2], 'size')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HGET', KEYS[2], 'suffix') or ''
