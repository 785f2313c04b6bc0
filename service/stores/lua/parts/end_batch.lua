-- Ends a batch whose last item has ended: how long it is kept, and the webhook of its summary.
-- One of which nothing was worked on, for all of it was cancelled, is soon forgotten.
--
-- batch    hash of the batch
-- listed   zset of the account's batches
-- delivery  hash of the summary's delivery
-- hosts    zset of hosts that are owed something
-- due      zset of what the summary's receiver is owed
-- sent     zset of the account's deliveries
-- id       of the batch
-- at      the time (ms)
-- soon     lifetime of one that was cancelled as a whole (s)
-- lifetime  of any other (s)
-- summary  what is owed: account, host, id of the delivery; nil when no summary is
-- Returns  nothing
local function end_batch(batch, listed, delivery, hosts, due, sent, id, at, soon, lifetime, summary)
  redis.call('HSET', batch, 'finished_at', at)
  local counts = redis.call('HMGET', batch, 'total', 'status:cancelled', 'webhook_url')
  local untouched = counts[1] == counts[2]
  redis.call('EXPIRE', batch, untouched and soon or lifetime)
  if untouched then
    redis.call('ZREM', listed, id)
  end
  if summary then
    redis.call('HSET', delivery, 'account', summary.account, 'request', id, 'host', summary.host,
      'url', counts[3], 'status', 'pending', 'attempts', 0, 'tries', 0,
      'created_at', at, 'started_at', at, 'next_at', at)
    redis.call('ZADD', hosts, 'LT', at, summary.host)
    redis.call('ZADD', due, at, summary.id)
    if untouched then
      redis.call('HSET', delivery, 'brief', 1)
      redis.call('EXPIRE', delivery, soon)
    else
      redis.call('ZADD', sent, 0, summary.id)
    end
  end
end
