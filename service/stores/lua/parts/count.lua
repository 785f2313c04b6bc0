-- Counts against several fixed windows, unless one of them would be more than full.
-- A window begins with what is counted first.
--
-- names   one string per window
-- limits  for each window: how many, window (ms)
-- amount  how many are counted
-- Returns  for each window {counted, ms until it starts anew, 1 when there was no room in it before this};
--          whether there was none in one of them, then nothing is counted
local function count(names, limits, amount)
  local states, full = {}, false
  for i, name in ipairs(names) do
    local counted = tonumber(redis.call('GET', name) or 0)
    local over = counted + amount > tonumber(limits[2 * i - 1])
    full = full or over
    states[i] = {counted, redis.call('PTTL', name), over and 1 or 0}
  end
  if full then
    return states, true
  end
  for i, name in ipairs(names) do
    local counted = redis.call('INCRBY', name, amount)
    if counted == amount then
      redis.call('PEXPIRE', name, limits[2 * i])
    end
    states[i] = {counted, redis.call('PTTL', name), 0}
  end
  return states, false
end
