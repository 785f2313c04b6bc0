-- Makes an open request free: nobody gets its result in the answer they waited for.
-- Calling it again changes nothing.
--
-- KEYS  1 request hash
-- ARGV  none
-- Returns  1 when it is free from now on,  0 when it has ended, or is not there
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'queued' and status ~= 'processing' then
  return 0
end
redis.call('HSET', KEYS[1], 'abandoned', 1)
return 1
