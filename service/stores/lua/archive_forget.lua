-- Drops what is known of a file of the archive that was deleted; with the last file of an owner, its names.
-- It counts no more for the accounts that asked for it.
--
-- KEYS  1 lock string   2 object hash   3 expiry zset   4 owners set   5 zset of the names of all owners
--       6 set of the accounts that asked for it   7 string: bytes of all files
--       8.. set of an owner's files, set of the owner's names, both of the next owner, ...; then zset of an
--       account's files, string of their bytes, both of the next account, ...
-- ARGV  1 token of the lock   2 digest   3.. owner, in the order of KEYS
-- Returns  1, or 0 when another holds the lock
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local size = redis.call('HGET', KEYS[2], 'counted')
if size and redis.call('DECRBY', KEYS[7], size) <= 0 then
  redis.call('DEL', KEYS[7])
end
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('DEL', KEYS[4], KEYS[6])
local accounts = 8 + 2 * (#ARGV - 2)
for index = 8, accounts - 1, 2 do
  redis.call('SREM', KEYS[index], ARGV[2])
  if redis.call('EXISTS', KEYS[index]) == 0 then
    for _, name in ipairs(redis.call('SMEMBERS', KEYS[index + 1])) do
      redis.call('ZREM', KEYS[5], name .. ' ' .. ARGV[index / 2 - 1])
    end
    redis.call('DEL', KEYS[index + 1])
  end
end
for index = accounts, #KEYS, 2 do
  if size and redis.call('ZREM', KEYS[index], ARGV[2] .. ':' .. size) == 1 then
    redis.call('DECRBY', KEYS[index + 1], size)
  end
  if redis.call('EXISTS', KEYS[index]) == 0 then
    redis.call('DEL', KEYS[index + 1])
  end
end
return 1
