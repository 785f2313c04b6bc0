-- Reserves room in the archive for a file on its way, where there is some: counted before it is fetched.
-- Calling it again with the same token changes nothing.
--
-- KEYS  1 string: bytes of all files   2 zset of reservations   3 zset of the account's files
--       4 string: bytes of these
-- ARGV  1 token   2 account id   3 bytes   4 seconds the reservation holds   5 bytes all files may have, 0 for
--       any   6 bytes an account's may have, 0 for any   7 "<digest>:<size>" of a file that is there, or ""
-- Returns  "": reserved; "all": the archive is full; "account": the account's share is
local member = ARGV[1] .. '|' .. ARGV[2] .. '|' .. ARGV[3]
if redis.call('ZSCORE', KEYS[2], member) or redis.call('ZSCORE', KEYS[3], ARGV[7]) then
  return ''
end
local now, size = tonumber(redis.call('TIME')[1]), tonumber(ARGV[3])

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local reserved, own = 0, 0
for _, each in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local whose, bytes = string.match(each, '|([^|]*)|(%d+)$')
  reserved = reserved + tonumber(bytes)
  if whose == ARGV[2] then
    own = own + tonumber(bytes)
  end
end

-- What has ended counts no more, whether it was deleted yet or not; so many at a time.
for _, each in ipairs(redis.call('ZRANGE', KEYS[3], '-inf', now, 'BYSCORE', 'LIMIT', 0, 200)) do
  redis.call('ZREM', KEYS[3], each)
  redis.call('DECRBY', KEYS[4], string.match(each, ':(%d+)$'))
end

local most, share = tonumber(ARGV[5]), tonumber(ARGV[6])
if share > 0 and tonumber(redis.call('GET', KEYS[4]) or 0) + own + size > share then
  return 'account'
end
if most > 0 and ARGV[7] == '' and tonumber(redis.call('GET', KEYS[1]) or 0) + reserved + size > most then
  return 'all'
end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]), member)
return ''
