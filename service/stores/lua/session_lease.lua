-- Takes the least recently used session that may be used now and that has calls left, its own and its
-- proxy's, and reserves what it is granted of them at once. A session without enough is put off to the
-- end of the fullest window, plus jitter. The lease is the session's place in the ready zset (its end)
-- and its token, <number>:<when it was taken>:<calls granted>:<proxy's tag or "">:<when it ends>.
-- Budgets are fixed windows that begin with their first call: s:<name>:<seconds> or p:<tag>:<seconds>
-- stands for <start ms>:<calls>; o:<name> is until when (ms) a session is put off by its budgets.
-- Who serves a caller and finds all sessions held says so, and who works for nobody that waits gives way.
--
-- KEYS  1 ready zset   2 leases hash   3 counter   4 budget hash   5 hash of the proxies' tags by name
--       6 string that is there while a caller waits for a session
-- ARGV  1 lease (ms)   2 calls wanted, or 0 to look only   3 calls it takes at least
--       4 jitter, from 0 to 1   5 calls a session may make a minute   6 an hour
--       7 calls a proxy may carry a minute   8 an hour (each: zero is no limit)
--       9 1 to give way to callers who wait   10 for how long a waiting caller is remembered (ms)
-- Returns  {"leased", name, token, calls granted, proxy's tag or ""},  {"free"} when only looked for,  or
--          {"none", ms until one may be used or -1, how many are held, 1 when it is budgets that keep it}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The windows the calls of a session count in, as they are now.
local function windows(name, tag)
  local found = {}
  local function add(field, seconds, limit)
    if limit == 0 then
      return
    end
    local start, count = string.match(redis.call('HGET', KEYS[4], field) or '', '^(%d+):(%d+)$')
    start = tonumber(start)
    if not start or math.abs(now - start) >= seconds * 1000 then
      start, count = now, 0
    end
    found[#found + 1] =
      {field = field, start = start, count = tonumber(count), limit = limit, ends = start + seconds * 1000}
  end
  add('s:' .. name .. ':60', 60, tonumber(ARGV[5]))
  add('s:' .. name .. ':3600', 3600, tonumber(ARGV[6]))
  if tag ~= '' then
    add('p:' .. tag .. ':60', 60, tonumber(ARGV[7]))
    add('p:' .. tag .. ':3600', 3600, tonumber(ARGV[8]))
  end
  return found
end

-- How many calls are granted, and until when none are.
local function judge(found)
  local granted, wait_until = math.max(tonumber(ARGV[2]), 1), 0
  for _, window in ipairs(found) do
    local left = window.limit - window.count
    -- More than the limit is never there: then a whole window will do.
    if left < math.min(tonumber(ARGV[3]), window.limit) then
      wait_until = math.max(wait_until, window.ends)
    end
    granted = math.min(granted, left)
  end
  return granted, wait_until
end

local function held()
  local count = 0
  for _, token in ipairs(redis.call('HVALS', KEYS[2])) do
    if tonumber(string.match(token, '%d+$')) > now then
      count = count + 1
    end
  end
  return count
end

if ARGV[9] == '1' then
  local wanted = redis.call('PTTL', KEYS[6])
  if wanted > 0 then
    return {'none', wanted, held(), 0}
  end
end

local jitter = tonumber(ARGV[4])
while true do
  local name = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
  if not name then
    break
  end
  local tag = redis.call('HGET', KEYS[5], name) or ''
  local found = windows(name, tag)
  local granted, wait_until = judge(found)
  if wait_until == 0 and ARGV[2] == '0' then
    return {'free'}
  end
  if wait_until == 0 then
    for _, window in ipairs(found) do
      redis.call('HSET', KEYS[4], window.field, string.format('%.0f:%.0f', window.start, window.count + granted))
    end
    local lease_until = now + tonumber(ARGV[1])
    local token = string.format('%.0f:%.0f:%.0f:%s:%.0f',
      redis.call('INCR', KEYS[3]), now, granted, tag, lease_until)
    redis.call('HDEL', KEYS[4], 'o:' .. name)
    redis.call('ZADD', KEYS[1], lease_until, name)
    redis.call('HSET', KEYS[2], name, token)
    return {'leased', name, token, granted, tag}
  end
  local off_until = wait_until + math.ceil((wait_until - now) * 0.1 * jitter)
  redis.call('ZADD', KEYS[1], off_until, name)
  redis.call('HSET', KEYS[4], 'o:' .. name, string.format('%.0f', off_until))
  jitter = (jitter + 0.618) % 1 -- those put off together come back apart
end

local first, in_use = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES'), held()
if in_use > 0 and ARGV[9] ~= '1' then
  redis.call('SET', KEYS[6], 1, 'PX', ARGV[10])
end
if not first[1] then
  return {'none', -1, in_use, 0}
end
local paced = tonumber(redis.call('HGET', KEYS[4], 'o:' .. first[1])) == tonumber(first[2])
return {'none', tonumber(first[2]) - now, in_use, paced and 1 or 0}
