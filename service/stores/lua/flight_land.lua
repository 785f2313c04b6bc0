-- Ends the fetch of a reel: keeps what it brought, and names those who waited for it.
-- Who lost the flight to another after its lease leaves everything to them.
--
-- KEYS  1 flight string   2 waiting set   3 reel hash
-- ARGV  1 token   2 longest lifetime (ms), 0 when there is nothing to keep   3 started (Unix ms)
--       4 until when it may be shown (Unix ms), 0 without end   5 code of a failure or ""   6 body
--       7 id of the account it is about, "" where nothing was found   8 name of it, or ""
-- Returns  {request id, ...}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {}
end
redis.call('DEL', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = now + tonumber(ARGV[2])
if tonumber(ARGV[4]) > 0 then
  ends = math.min(ends, tonumber(ARGV[4]))
end
if ends > now then
  redis.call('HSET', KEYS[3], 'started', ARGV[3], 'fetched', now, 'until', ends, 'code', ARGV[5], 'body', ARGV[6],
    'owner', ARGV[7], 'owner_name', ARGV[8])
  redis.call('PEXPIREAT', KEYS[3], ends)
end
local waiting = redis.call('SMEMBERS', KEYS[2])
redis.call('DEL', KEYS[2])
return waiting
