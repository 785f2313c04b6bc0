-- Accepts a request: counts the call, holds the price, stores it, opens it for work, puts it into the bulk
-- queue, in one step. Calling it again with the same request id changes nothing, so a lost reply may be retried.
--
-- KEYS  1 request hash   2 credits hash   3 ledger stream   4 open zset
--       5 the account's requests zset     6 stats hash     7 idempotency hash
--       8 watch hash   9 watching zset   10 hash of the watch's open request
--       11 bulk queue zset   12 its clock hash   13 string: workers were called
--       14 string that lives as long as the account's free endings weigh
--       15.. string of each window of the account's rate limits
-- ARGV  1 request id   2 account id   3 operation   4 kind of target   5 queue   6 hold (credits)
--       7 webhook URL or ""   8 milliseconds until the sweep looks   9 id below which the index is trimmed
--       10 fingerprint of what is asked, "" without an idempotency key   11 lifetime of the key (s)
--       12 how old a shared result may be (s)
--       13 watch id or ""   14 id of the watch's open request or ""   15 milliseconds until the watch's next
--       run, -1 when that stays as it is   16 milliseconds from then until the sweep looks
--       17 target   18 options or ""   19 milliseconds after which a call of workers that nobody followed
--       counts as lost, "" when it is not to be put into the bulk queue
--       20 how long free endings may weigh (ms), "" for no limit
--       21.. for each window: how many calls, window (ms)
-- Returns  {state of each window, see rate.lua; what became of it: one of
--          "ok", created_at ms, available credits, for how many requests workers are to be called
--          "limited": a window is full
--          "poor", available credits, 1 when the watch was paused for it
--          "replay", id of the first request with this key, or of the open one of this watch
--          "reuse": the key stands for something else
--          "broken": the account's credits are no numbers that can be counted with
--          "spent", ms until free endings weigh no more than they may
--          "idle": the watch is paused or gone
--          "moved", id or "": another request of the watch is the open one}
-- @include count
-- @include credits
-- @include enqueue
local created = redis.call('HGET', KEYS[1], 'created_at')
if created then
  local balance, held = credits_of(KEYS[2])
  -- Whoever was told of it may not have called anybody.
  local uncalled = ARGV[19] ~= '' and 1 or 0
  return {{}, 'ok', tonumber(created), balance and balance - held or 0, uncalled}
end

local windows, full = count({unpack(KEYS, 15)}, {unpack(ARGV, 21)}, 1)
if full then
  return {windows, 'limited'}
end

if ARGV[10] ~= '' then
  local known = redis.call('HMGET', KEYS[7], 'fingerprint', 'request')
  if known[1] then
    if known[1] == ARGV[10] then
      return {windows, 'replay', known[2]}
    end
    return {windows, 'reuse'}
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[13] ~= '' then
  local watch = redis.call('HMGET', KEYS[8], 'status', 'running')
  if watch[1] ~= 'active' then
    return {windows, 'idle'}
  end
  if (watch[2] or '') ~= ARGV[14] then
    return {windows, 'moved', watch[2] or ''}
  end
  if tonumber(ARGV[15]) >= 0 then
    local following = now + tonumber(ARGV[15])
    redis.call('HSET', KEYS[8], 'next_run_at', following)
    redis.call('ZADD', KEYS[9], following + tonumber(ARGV[16]), ARGV[13])
  end
  local status = ARGV[14] ~= '' and redis.call('HGET', KEYS[10], 'status')
  if status == 'queued' or status == 'processing' then
    return {windows, 'replay', ARGV[14]}
  end
end

if ARGV[20] ~= '' then
  local over = redis.call('PTTL', KEYS[14]) - tonumber(ARGV[20])
  if over > 0 then
    if ARGV[13] ~= '' then
      redis.call('HSET', KEYS[8], 'last_outcome', 'rate_limited')
    end
    return {windows, 'spent', over}
  end
end

local hold = tonumber(ARGV[6])
local balance, held = credits_of(KEYS[2])
if not balance then
  return {windows, 'broken'}
end
if balance - held < hold then
  local paused = 0
  if ARGV[13] ~= '' then
    redis.call('HSET', KEYS[8], 'last_outcome', 'insufficient_credits')
    -- A run by hand tells whoever made it; the reply to this very call may have been lost.
    if tonumber(ARGV[15]) >= 0 and redis.call('HGET', KEYS[8], 'unpaid_run') ~= ARGV[1] then
      redis.call('HSET', KEYS[8], 'unpaid_run', ARGV[1])
      if redis.call('HINCRBY', KEYS[8], 'unpaid', 1) >= 3 then
        redis.call('HSET', KEYS[8], 'status', 'paused', 'pause_reason', 'insufficient_credits')
        redis.call('HDEL', KEYS[8], 'next_run_at')
        redis.call('ZREM', KEYS[9], ARGV[13])
        paused = 1
      end
    end
  end
  return {windows, 'poor', balance - held, paused}
end

redis.call('HSET', KEYS[1],
  'account', ARGV[2], 'operation', ARGV[3], ARGV[4], ARGV[17], 'queue', ARGV[5],
  'status', 'queued', 'hold', hold, 'created_at', now, 'max_age', ARGV[12])
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'webhook_url', ARGV[7])
end
if ARGV[18] ~= '' then
  redis.call('HSET', KEYS[1], 'options', ARGV[18])
end
if ARGV[13] ~= '' then
  redis.call('HSET', KEYS[1], 'watch', ARGV[13])
  redis.call('HSET', KEYS[8], 'running', ARGV[1], 'last_run_at', now, 'last_request', ARGV[1])
  redis.call('HDEL', KEYS[8], 'unpaid', 'unpaid_run')
end
if ARGV[10] ~= '' then
  redis.call('HSET', KEYS[7], 'fingerprint', ARGV[10], 'request', ARGV[1])
  redis.call('EXPIRE', KEYS[7], ARGV[11])
end
if hold > 0 then
  redis.call('HSET', KEYS[2], 'balance', balance, 'held', held + hold)
  redis.call('XADD', KEYS[3], '*', 'type', 'hold', 'amount', -hold,
    'balance', balance, 'held', held + hold, 'request', ARGV[1], 'at', now)
  redis.call('HINCRBY', KEYS[6], 'held', hold)
end
redis.call('ZADD', KEYS[4], now + tonumber(ARGV[8]), ARGV[1])
redis.call('ZADD', KEYS[5], 0, ARGV[1])
redis.call('ZREMRANGEBYLEX', KEYS[5], '-', '(' .. ARGV[9])
redis.call('HINCRBY', KEYS[6], 'accepted', 1)

local uncalled = 0
if ARGV[19] ~= '' then
  uncalled = enqueue(KEYS[11], KEYS[12], KEYS[13], ARGV[19], ARGV[2], {ARGV[1]})
end
return {windows, 'ok', now, balance - held - hold, uncalled}
