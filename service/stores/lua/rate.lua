-- Counts one call against several fixed windows, unless one of them is full already.
-- A window begins with its first call.
--
-- KEYS  one string per window
-- ARGV  for each window: how many calls, window (ms)
-- Returns  for each window {calls counted, ms until it starts anew, 1 when it was full before this call}
local states, full = {}, false
for i, key in ipairs(KEYS) do
  local count = tonumber(redis.call('GET', key) or 0)
  local over = count >= tonumber(ARGV[2 * i - 1])
  full = full or over
  states[i] = {count, redis.call('PTTL', key), over and 1 or 0}
end
if full then
  return states
end
for i, key in ipairs(KEYS) do
  local count = redis.call('INCR', key)
  if count == 1 then
    redis.call('PEXPIRE', key, ARGV[2 * i])
  end
  states[i] = {count, redis.call('PTTL', key), 0}
end
return states
