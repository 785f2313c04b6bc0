-- Ends a request in one step: final state, result, charge and release, webhook owed, waiters woken.
-- Only the holder of the newest fence may end a claimed request; an empty fence ends a queued one.
-- Calling it again with the same arguments changes nothing, so a lost reply may be retried.
--
-- KEYS  1 request hash   2 result string   3 credits hash   4 ledger stream   5 open zset
--       6 stats hash     7 delivery hash   8 due hosts zset   9 due zset of the receiver's host
--       10 the account's deliveries zset   11 batch hash, of a request that is an item of one
--       12 delivery hash of the batch's summary   13 due zset of its receiver's host
--       14 hash of the request's watch   15 what the watch has seen, zset
--       16 what the watch is owed, zset   17 the account's requests zset
--       18 string that lives as long as the account's free endings weigh   19 the account's batches zset
-- ARGV  1 request id   2 fence or ""   3 final status   4 outcome   5 code   6 charge (credits)
--       7 item count   8 Retry-After (s)   9 envelope (gzip)   10 lifetime of the result (s)
--       11 channel of the waiters   12 delivery id   13 receiver's host
--       14 milliseconds until the pump looks   15 id below which the list of deliveries is trimmed
--       16 1 when the result was shared   17 id of the summary's delivery   18 batch id or ""
--       19 channel of who waits for the batch   20 1 when no webhook is sent after all
--       21 what the watch has seen: item, when to forget it (s), item, ..., by spaces
--       22 source, "" where nothing was found   23 id of the account the result is about   24 its name
--       25 by how long the free endings weigh more, or less when it is paid for (ms)
--       26 lifetime of a batch of which not all was cancelled (s)
-- Returns  {"ok", delivery id or ""},  {"lost"} when the caller has no right to end it,  or  {"free"} when it
--          was abandoned: it may end, but only without a charge
-- @include end_batch
-- @include took
local request = redis.call('HMGET', KEYS[1], 'status', 'fence', 'hold', 'created_at', 'webhook_url', 'account',
  'batch_host', 'watch', 'abandoned')
local status, fence = request[1], request[2] or ''
local owed = ''
if request[5] and ARGV[20] ~= '1' then
  owed = ARGV[12]
end
if status == ARGV[3] and (fence == ARGV[2] or ARGV[2] == '') then
  return {'ok', owed}
end
if ARGV[2] == '' then
  if status ~= 'queued' then
    return {'lost'}
  end
elseif status ~= 'processing' or fence ~= ARGV[2] then
  return {'lost'}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local hold = tonumber(request[3])
local charge = tonumber(ARGV[6])
if charge > hold then
  return redis.error_reply('CHARGE exceeds what was held')
end
if charge > 0 and request[9] then
  return {'free'}
end

if hold > 0 then
  local balance = tonumber(redis.call('HGET', KEYS[3], 'balance'))
  local held = tonumber(redis.call('HGET', KEYS[3], 'held'))
  if charge > 0 then
    balance = balance - charge
    held = held - charge
    redis.call('XADD', KEYS[4], '*', 'type', 'charge', 'amount', -charge,
      'balance', balance, 'held', held, 'request', ARGV[1], 'at', now)
  end
  if hold > charge then
    held = held - (hold - charge)
    redis.call('XADD', KEYS[4], '*', 'type', 'release', 'amount', hold - charge,
      'balance', balance, 'held', held, 'request', ARGV[1], 'at', now)
  end
  redis.call('HSET', KEYS[3], 'balance', balance, 'held', held)
  redis.call('HINCRBY', KEYS[6], 'held', -hold)
end

redis.call('HSET', KEYS[1], 'status', ARGV[3], 'outcome', ARGV[4], 'code', ARGV[5], 'charged', charge,
  'item_count', ARGV[7], 'retry_after', ARGV[8], 'cached', ARGV[16], 'finished_at', now)
if ARGV[20] == '1' then
  redis.call('HSET', KEYS[1], 'silent', 1)
end
if ARGV[22] ~= '' then
  redis.call('HSET', KEYS[1], 'source', ARGV[22], 'owner', ARGV[23], 'owner_name', ARGV[24])
end
redis.call('HDEL', KEYS[1], 'lease_until')
redis.call('EXPIRE', KEYS[1], ARGV[10])
redis.call('SET', KEYS[2], ARGV[9], 'EX', ARGV[10])
redis.call('ZREM', KEYS[5], ARGV[1])
if ARGV[3] == 'cancelled' then
  redis.call('ZREM', KEYS[17], ARGV[1])
end

local more = tonumber(ARGV[25])
if more ~= 0 then
  local life = redis.call('PTTL', KEYS[18])
  if math.max(life, 0) + more > 0 then
    redis.call('SET', KEYS[18], 1, 'PX', math.max(life, 0) + more)
  elseif life > 0 then
    redis.call('DEL', KEYS[18])
  end
end

if owed ~= '' then
  local look = now + tonumber(ARGV[14])
  redis.call('HSET', KEYS[7], 'account', request[6], 'request', ARGV[1], 'url', request[5], 'host', ARGV[13],
    'status', 'pending', 'attempts', 0, 'tries', 0, 'created_at', now, 'started_at', now, 'next_at', now)
  redis.call('ZADD', KEYS[8], 'LT', look, ARGV[13])
  redis.call('ZADD', KEYS[9], look, owed)
  if ARGV[3] == 'cancelled' then
    redis.call('HSET', KEYS[7], 'brief', 1)
    redis.call('EXPIRE', KEYS[7], ARGV[10])
  else
    redis.call('ZADD', KEYS[10], 0, owed)
    redis.call('ZREMRANGEBYLEX', KEYS[10], '-', '(' .. ARGV[15])
  end
end

-- A watch that was deleted meanwhile stays deleted.
if request[8] and redis.call('EXISTS', KEYS[14]) == 1 then
  if redis.call('HGET', KEYS[14], 'running') == ARGV[1] then
    redis.call('HDEL', KEYS[14], 'running')
  end
  redis.call('HINCRBY', KEYS[14], 'runs', 1)
  redis.call('HSET', KEYS[14], 'last_outcome', ARGV[4] ~= '' and ARGV[4] or ARGV[5])
  if ARGV[3] == 'succeeded' then
    redis.call('HDEL', KEYS[14], 'told')
  elseif owed ~= '' then
    redis.call('HSET', KEYS[14], 'told', ARGV[5])
  end
  if owed ~= '' and tonumber(ARGV[7]) > 0 then
    redis.call('HINCRBY', KEYS[14], 'items_delivered', ARGV[7])
    if ARGV[21] ~= '' then
      redis.call('ZADD', KEYS[16], now, ARGV[1])
    end
  end
  if ARGV[21] ~= '' then
    -- First forgotten, then remembered: what is shown from run to run is known whatever its time says.
    redis.call('ZREMRANGEBYSCORE', KEYS[15], '-inf', now / 1000)
    for item, forget in string.gmatch(ARGV[21], '(%S+) (%S+)') do
      redis.call('ZADD', KEYS[15], forget, item)
    end
  end
end

local label = ARGV[4]
if label == '' then
  label = ARGV[5]
end
if ARGV[16] == '1' then
  redis.call('HINCRBY', KEYS[6], 'shared', 1)
end
redis.call('HINCRBY', KEYS[6], 'outcome:' .. label, 1)
if ARGV[22] ~= '' then
  redis.call('HINCRBY', KEYS[6], 'source:' .. ARGV[22], 1)
end
local seconds = (now - tonumber(request[4])) / 1000
took(KEYS[6], seconds, 1)
redis.call('PUBLISH', ARGV[11], ARGV[3])

-- A store that was filled anew may have the item and not its batch.
if ARGV[18] ~= '' and redis.call('EXISTS', KEYS[11]) == 1 then
  redis.call('HINCRBY', KEYS[11], 'status:' .. ARGV[3], 1)
  redis.call('HINCRBY', KEYS[11], 'outcome:' .. label, 1)
  redis.call('HINCRBY', KEYS[11], 'charged', charge)
  redis.call('HINCRBY', KEYS[11], 'items', ARGV[7])
  redis.call('HINCRBY', KEYS[11], 'cached', ARGV[16])
  if status == 'processing' then
    redis.call('HINCRBY', KEYS[11], 'processing', -1)
  end
  if redis.call('HINCRBY', KEYS[11], 'left', -1) == 0 then
    local summary
    if request[7] then
      summary = {host = request[7], account = request[6], id = ARGV[17]}
    end
    end_batch(KEYS[11], KEYS[19], KEYS[12], KEYS[8], KEYS[13], KEYS[10], ARGV[18], now, ARGV[10], ARGV[26], summary)
    redis.call('PUBLISH', ARGV[19], 'completed')
  end
end
return {'ok', owed}
