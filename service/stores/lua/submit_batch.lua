-- Accepts many requests as one batch: holds their prices, stores them, opens them for work, in one step.
-- Calling it again with the same batch id changes nothing, so a lost reply may be retried.
--
-- KEYS  1 batch hash   2 credits hash   3 ledger stream   4 open zset   5 the account's requests zset
--       6 stats hash   7 idempotency hash   8 the account's batches zset
--       9 string that lives as long as the account's free endings weigh
--       10.. string of each window of its limits of names, then request hash of each item
-- ARGV  1 batch id   2 account id   3 operation   4 hold of each (credits)   5 webhook URL or ""
--       6 1 when each item owes a webhook   7 host of the receiver of the summary or ""
--       8 how old a shared result may be (s)   9 1 to accept as many as the balance pays for
--       10 milliseconds until the sweep looks   11 id below which the list of requests is trimmed
--       12 the same for batches   13 fingerprint of what is asked, "" without an idempotency key
--       14 lifetime of the key (s)   15 webhook mode
--       16 options or ""   17 how long free endings may weigh (ms), "" for no limit
--       18 how many windows there are
--       19.. for each window: how many names, window (ms); then username and external id ("" for none)
--       of each item
-- Returns  {"ok", created_at ms, how many were accepted},  {"poor", available credits, 0},
--          {"replay", id of the first batch with this key, 0},  {"reuse", "", 0}: the key stands for
--          something else,  {"broken", "", 0}: the account's credits are no numbers that can be counted
--          with,  {"spent", ms until free endings weigh no more than they may, 0}  or
--          {"limited", "", 0, state of each window, see parts/count.lua}: one has no room for the names
-- @include count
-- @include credits
local known = redis.call('HMGET', KEYS[1], 'created_at', 'total')
if known[1] then
  return {'ok', tonumber(known[1]), tonumber(known[2])}
end

if ARGV[13] ~= '' then
  local first = redis.call('HMGET', KEYS[7], 'fingerprint', 'request')
  if first[1] then
    if first[1] == ARGV[13] then
      return {'replay', first[2], 0}
    end
    return {'reuse', '', 0}
  end
end

if ARGV[17] ~= '' then
  local over = redis.call('PTTL', KEYS[9]) - tonumber(ARGV[17])
  if over > 0 then
    return {'spent', over, 0}
  end
end

local windows = tonumber(ARGV[18])
local items, texts = 9 + windows, 18 + 2 * windows -- what stands before those of the first item
local hold, accepted = tonumber(ARGV[4]), #KEYS - items
local balance, held = credits_of(KEYS[2])
if not balance then
  return {'broken', '', 0}
end
if hold * accepted > balance - held then
  local paid = math.floor((balance - held) / hold)
  if ARGV[9] ~= '1' or paid < 1 then
    return {'poor', balance - held, 0}
  end
  accepted = paid
end

local states, full = count({unpack(KEYS, 10, items)}, {unpack(ARGV, 19, texts)}, accepted)
if full then
  return {'limited', '', 0, states}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local look = now + tonumber(ARGV[10])
for item = 1, accepted do
  local id = string.match(KEYS[items + item], 'req_%w+$')
  redis.call('HSET', KEYS[items + item], 'account', ARGV[2], 'operation', ARGV[3],
    'username', ARGV[texts - 1 + 2 * item], 'queue', 'bulk', 'status', 'queued', 'hold', hold, 'created_at', now, 'max_age', ARGV[8], 'batch', ARGV[1])
  if ARGV[texts + 2 * item] ~= '' then
    redis.call('HSET', KEYS[items + item], 'external_id', ARGV[texts + 2 * item])
  end
  if ARGV[16] ~= '' then
    redis.call('HSET', KEYS[items + item], 'options', ARGV[16])
  end
  if ARGV[6] == '1' then
    redis.call('HSET', KEYS[items + item], 'webhook_url', ARGV[5])
  end
  if ARGV[7] ~= '' then
    redis.call('HSET', KEYS[items + item], 'batch_host', ARGV[7])
  end
  -- A millisecond apart, so that the sweep is not handed all of them at once.
  redis.call('ZADD', KEYS[4], look + item, id)
  redis.call('ZADD', KEYS[5], 0, id)
end
if hold > 0 then
  held = held + hold * accepted
  redis.call('XADD', KEYS[3], '*', 'type', 'hold', 'amount', -hold * accepted,
    'balance', balance, 'held', held, 'request', ARGV[1], 'at', now)
  redis.call('HSET', KEYS[2], 'balance', balance, 'held', held)
  redis.call('HINCRBY', KEYS[6], 'held', hold * accepted)
end
redis.call('HINCRBY', KEYS[6], 'accepted', accepted)
redis.call('HINCRBY', KEYS[6], 'batches', 1)

redis.call('HSET', KEYS[1], 'account', ARGV[2], 'operation', ARGV[3], 'total', accepted, 'left', accepted,
  'hold', hold, 'max_age', ARGV[8], 'mode', ARGV[15], 'created_at', now, 'one_hold', 1)
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'webhook_url', ARGV[5])
end
if ARGV[13] ~= '' then
  redis.call('HSET', KEYS[7], 'fingerprint', ARGV[13], 'request', ARGV[1])
  redis.call('EXPIRE', KEYS[7], ARGV[14])
end
redis.call('ZADD', KEYS[8], 0, ARGV[1])
redis.call('ZREMRANGEBYLEX', KEYS[5], '-', '(' .. ARGV[11])
redis.call('ZREMRANGEBYLEX', KEYS[8], '-', '(' .. ARGV[12])
return {'ok', now, accepted}
