-- Counts one call against several fixed windows, unless one of them is full already.
--
-- KEYS  one string per window
-- ARGV  for each window: how many calls, window (ms)
-- Returns  for each window {calls counted, ms until it starts anew, 1 when it was full before this call}
-- @include count
return (count(KEYS, ARGV, 1))
