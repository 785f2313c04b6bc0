-- Takes the least recently used session that may be used now. The lease is the session's place in
-- the ready zset (its end) and its token; nothing else is touched, so no key needs to be computed.
--
-- KEYS  1 ready zset   2 leases hash   3 counter
-- ARGV  1 lease (ms)
-- Returns  {"leased", name, token}  or  {"none", ms until one may be used or -1, how many are held}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
if name then
  local lease_until = now + tonumber(ARGV[1])
  local token = string.format('%.0f:%.0f', redis.call('INCR', KEYS[3]), lease_until)
  redis.call('ZADD', KEYS[1], lease_until, name)
  redis.call('HSET', KEYS[2], name, token)
  return {'leased', name, token}
end

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local held = 0
for _, token in ipairs(redis.call('HVALS', KEYS[2])) do
  if tonumber(string.match(token, '%d+$')) > now then
    held = held + 1
  end
end
return {'none', first[2] and tonumber(first[2]) - now or -1, held}
