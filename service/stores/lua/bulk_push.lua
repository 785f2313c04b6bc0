-- Puts an account's requests into the bulk queue.
--
-- KEYS  1 queue zset (request id by virtual time)   2 clock hash ("virtual", and each account's next turn)
--       3 string: workers were called
-- ARGV  1 account id   2 milliseconds after which a call that nobody followed counts as lost   3.. request ids
-- Returns  for how many requests workers are to be called
-- @include enqueue
return enqueue(KEYS[1], KEYS[2], KEYS[3], ARGV[2], ARGV[1], {unpack(ARGV, 3)})
