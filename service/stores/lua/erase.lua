-- Removes what is kept of a request that has ended: its record, result and delivery, and their places in lists.
-- The ledger stays. An attempt to deliver it that is under way finds its fence gone, and records nothing.
-- Calling it again, or for a request that is gone, changes nothing.
--
-- KEYS  1 request hash   2 result string   3 the account's requests zset   4 delivery hash
--       5 log list of the delivery   6 the account's deliveries zset   7 due zset of the receiver's host
-- ARGV  1 request id   2 delivery id
-- Returns  1, or 0 while the request is open
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'queued' or status == 'processing' then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
redis.call('DEL', KEYS[4])
redis.call('DEL', KEYS[5])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[2])
redis.call('ZREM', KEYS[7], ARGV[2])
return 1
