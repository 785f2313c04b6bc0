-- Cancels a batch in one step: marks it, ends those of its items that are queued, and releases what was held
-- for them with one entry. Calling it again changes nothing, so a lost reply may be retried.
--
-- KEYS  1 batch hash   2 credits hash   3 ledger stream   4 open zset   5 the account's requests zset
--       6 the account's batches zset   7 stats hash   8 due hosts zset   9 due zset of the receiver's host
--       10 delivery hash of the summary   11 the account's deliveries zset
--       12.. request hash, result string and delivery hash of each item that may be queued
-- ARGV  1 batch id   2 account id   3 receiver's host   4 milliseconds until the pump looks
--       5 lifetime of what is cancelled (s)   6 lifetime of a batch of which not all was (s)
--       7 id of the summary's delivery   8 channel of who waits for the batch
--       9 what the channel of who waits for an item begins with   10.. id and envelope (gzip) of each item
-- Returns  {id of each item that was ended by this call, ...}
-- @include end_batch
-- @include took
local batch = redis.call('HMGET', KEYS[1], 'left', 'one_hold', 'created_at')
if tonumber(batch[1] or 0) == 0 then
  return {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSETNX', KEYS[1], 'cancelled_at', now)

local balance = tonumber(redis.call('HGET', KEYS[2], 'balance') or 0)
local held = tonumber(redis.call('HGET', KEYS[2], 'held') or 0)
local released, ended, places, summary = 0, {}, {}, nil
for item = 1, (#KEYS - 11) / 3 do
  local place = 9 + 3 * item
  local id = ARGV[8 + 2 * item]
  local request = redis.call('HMGET', KEYS[place], 'status', 'hold', 'webhook_url', 'batch_host')
  if request[1] == 'queued' then
    local hold = tonumber(request[2])
    released = released + hold
    if hold > 0 and not batch[2] then
      -- A version before held the price of each item by an entry of its own.
      held = held - hold
      redis.call('XADD', KEYS[3], '*', 'type', 'release', 'amount', hold, 'balance', balance, 'held', held,
        'request', id, 'at', now)
    end
    redis.call('HSET', KEYS[place], 'status', 'cancelled', 'outcome', '', 'code', 'cancelled', 'charged', 0,
      'item_count', 0, 'retry_after', 0, 'cached', 0, 'finished_at', now)
    redis.call('EXPIRE', KEYS[place], ARGV[5])
    redis.call('SET', KEYS[place + 1], ARGV[9 + 2 * item], 'EX', ARGV[5])
    redis.call('ZREM', KEYS[4], id)
    redis.call('ZREM', KEYS[5], id)
    if request[3] then
      local owed, look = 'msg' .. string.sub(id, 4), now + tonumber(ARGV[4])
      redis.call('HSET', KEYS[place + 2], 'account', ARGV[2], 'request', id, 'url', request[3], 'host', ARGV[3],
        'status', 'pending', 'attempts', 0, 'tries', 0, 'created_at', now, 'started_at', now, 'next_at', now,
        'brief', 1)
      redis.call('EXPIRE', KEYS[place + 2], ARGV[5])
      redis.call('ZADD', KEYS[8], 'LT', look, ARGV[3])
      redis.call('ZADD', KEYS[9], look, owed)
    end
    if request[4] then
      summary = {host = request[4], account = ARGV[2], id = ARGV[7]}
    end
    redis.call('PUBLISH', ARGV[9] .. id, 'cancelled')
    ended[#ended + 1] = id
    places[#places + 1] = place
  end
end
if #ended == 0 then
  return {}
end

if released > 0 then
  if batch[2] then
    held = held - released
    local entry = redis.call('XADD', KEYS[3], '*', 'type', 'release', 'amount', released,
      'balance', balance, 'held', held, 'request', ARGV[1], 'at', now)
    for _, place in ipairs(places) do
      redis.call('HSET', KEYS[place], 'released', entry)
    end
  end
  redis.call('HSET', KEYS[2], 'held', held)
  redis.call('HINCRBY', KEYS[7], 'held', -released)
end
redis.call('HINCRBY', KEYS[7], 'outcome:cancelled', #ended)
took(KEYS[7], (now - tonumber(batch[3])) / 1000, #ended)
redis.call('HINCRBY', KEYS[1], 'status:cancelled', #ended)
redis.call('HINCRBY', KEYS[1], 'outcome:cancelled', #ended)
if redis.call('HINCRBY', KEYS[1], 'left', -#ended) == 0 then
  end_batch(KEYS[1], KEYS[6], KEYS[10], KEYS[8], KEYS[9], KEYS[11], ARGV[1], now, ARGV[5], ARGV[6], summary)
  redis.call('PUBLISH', ARGV[8], 'completed')
end
return ended
