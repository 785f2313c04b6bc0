-- Counts one call against several fixed windows, unless one of them is full already.
-- A window begins with its first call.
--
-- names   one string per window
-- limits  for each window: how many calls, window (ms)
-- Returns  for each window {calls counted, ms until it starts anew, 1 when it was full before this call};
--          whether one was
local function count(names, limits)
  local states, full = {}, false
  for i, name in ipairs(names) do
    local counted = tonumber(redis.call('GET', name) or 0)
    local over = counted >= tonumber(limits[2 * i - 1])
    full = full or over
    states[i] = {counted, redis.call('PTTL', name), over and 1 or 0}
  end
  if full then
    return states, true
  end
  for i, name in ipairs(names) do
    local counted = redis.call('INCR', name)
    if counted == 1 then
      redis.call('PEXPIRE', name, limits[2 * i])
    end
    states[i] = {counted, redis.call('PTTL', name), 0}
  end
  return states, false
end
