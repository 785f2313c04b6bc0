-- Takes in that a name and an id are of one account: once one is on the list, the other is put there too.
-- Calling it again changes nothing.
--
-- KEYS  1 names hash   2 ids hash
-- ARGV  1 username   2 user id   3 entry of the name (JSON)   4 entry of the id (JSON)
-- Returns  1 when one of them was on the list, else 0
local name = redis.call('HEXISTS', KEYS[1], ARGV[1])
local id = redis.call('HEXISTS', KEYS[2], ARGV[2])
if name == 0 and id == 0 then
  return 0
end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[4])
return 1
