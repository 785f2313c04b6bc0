-- Adds a watch to an account that has not too many of them; its first run is due at once.
-- Calling it again with the same id changes nothing.
--
-- KEYS  1 watch hash   2 the account's watches zset   3 watching zset   4 idempotency hash
-- ARGV  1 watch id   2 account id   3 username   4 every   5 webhook URL   6 1 for new items only
--       7 1 for a heartbeat   8 how old a shared result may be (s)   9 how many watches an account may have
--       10 milliseconds until the sweep looks   11 fingerprint of what is asked, "" without an idempotency key
--       12 lifetime of the key (s)   13 options of its runs or ""
-- Returns  {"ok", created_at ms},  {"full", how many there are},  {"replay", id of the first watch with this
--          key}  or  {"reuse", ""}: the key stands for something else
local created = redis.call('HGET', KEYS[1], 'created_at')
if created then
  return {'ok', tonumber(created)}
end
if ARGV[11] ~= '' then
  local known = redis.call('HMGET', KEYS[4], 'fingerprint', 'request')
  if known[1] then
    if known[1] == ARGV[11] then
      return {'replay', known[2]}
    end
    return {'reuse', ''}
  end
end
local there = redis.call('ZCARD', KEYS[2])
if there >= tonumber(ARGV[9]) then
  return {'full', there}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'account', ARGV[2], 'username', ARGV[3], 'every', ARGV[4], 'webhook_url', ARGV[5],
  'only_new', ARGV[6], 'heartbeat', ARGV[7], 'max_age', ARGV[8], 'status', 'active', 'created_at', now,
  'next_run_at', now, 'runs', 0, 'items_delivered', 0)
if ARGV[13] ~= '' then
  redis.call('HSET', KEYS[1], 'options', ARGV[13])
end
if ARGV[11] ~= '' then
  redis.call('HSET', KEYS[4], 'fingerprint', ARGV[11], 'request', ARGV[1])
  redis.call('EXPIRE', KEYS[4], ARGV[12])
end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[10]), ARGV[1])
return {'ok', now}
