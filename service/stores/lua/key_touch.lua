-- Notes the last use of an API key, unless it was revoked meanwhile: nothing of it is to come back.
--
-- KEYS  1 API key hash
-- ARGV  1 when (Unix ms)   2 from which address, or ""
-- Returns  1, or 0 when there is no such key
if redis.call('HEXISTS', KEYS[1], 'digest') == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'last_used_at', ARGV[1], 'last_used_from', ARGV[2])
return 1
