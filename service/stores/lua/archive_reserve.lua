-- Reserves room in the archive for a file on its way, where there is some: counted before it is fetched.
-- Calling it again with the same reservation changes nothing.
--
-- KEYS  1 string: bytes of all files   2 zset of reservations   3 zset of the account's files
--       4 string: bytes of these
-- ARGV  1 the reservation, "<token>|<account>|<bytes>|<bytes in all>"   2 account id   3 bytes it counts for the
--       account   4 bytes it counts in all, 0 for a file that is there   5 seconds the reservation holds
--       6 bytes all files may have, 0 for any   7 bytes an account's may have, 0 for any
--       8 "<digest>:<size>" of a file that is there, or ""
-- Returns  "": reserved; "all": the archive is full; "account": the account's share is
local now = tonumber(redis.call('TIME')[1])
local ends = now + tonumber(ARGV[5])
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return ''
end

-- What has ended counts no more, whether it was deleted yet or not; so many at a time.
for _, each in ipairs(redis.call('ZRANGE', KEYS[3], '-inf', now, 'BYSCORE', 'LIMIT', 0, 200)) do
  redis.call('ZREM', KEYS[3], each)
  redis.call('DECRBY', KEYS[4], string.match(each, ':(%d+)$'))
end
if redis.call('ZSCORE', KEYS[3], ARGV[8]) then
  redis.call('ZADD', KEYS[3], 'XX', 'GT', ends, ARGV[8]) -- It counts already, and does until it is recorded.
  return ''
end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local reserved, own = 0, 0
for _, each in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local whose, bytes, in_all = string.match(each, '|([^|]*)|(%d+)|(%d+)$')
  reserved = reserved + tonumber(in_all)
  if whose == ARGV[2] then
    own = own + tonumber(bytes)
  end
end

local size, more, most, share = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6]), tonumber(ARGV[7])
if share > 0 and tonumber(redis.call('GET', KEYS[4]) or 0) + own + size > share then
  return 'account'
end
if most > 0 and more > 0 and tonumber(redis.call('GET', KEYS[1]) or 0) + reserved + more > most then
  return 'all'
end
redis.call('ZADD', KEYS[2], ends, ARGV[1])
return ''
