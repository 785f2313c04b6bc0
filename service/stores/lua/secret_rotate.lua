-- Makes a new webhook secret the current one of an account; those before it sign on, each for its time.
-- Calling it again with the same name of the rotation changes nothing.
--
-- previous_secret and previous_expires_at are the newest of the old ones, as they always were; older_secrets
-- holds the others, a line each: secret, end (Unix ms), name of the rotation that made it, or "-".
--
-- KEYS  1 account hash   2 idempotency hash
-- ARGV  1 name of this rotation   2 new secret, sealed   3 how long the one before it signs on (ms)
--       4 how many old ones may sign   5 fingerprint of what is asked, "" without an idempotency key
--       6 lifetime of the key (s)
-- Returns  {"ok", name of the rotation the caller is told of},  {"full", ms until the first of them ends},
--          {"reuse", ""}: the key stands for something else,  or {"gone", ""}: there is no such account
local function live(now)
  local lines, first = {}, nil
  local function keep(secret, ends, rotation)
    if secret and tonumber(ends) > now then
      table.insert(lines, secret .. ' ' .. ends .. ' ' .. rotation)
      first = math.min(first or tonumber(ends), tonumber(ends))
    end
  end
  local found = redis.call('HMGET', KEYS[1], 'previous_secret', 'previous_expires_at', 'previous_rotation',
    'older_secrets')
  keep(found[1], found[2], found[3] or '-')
  for secret, ends, rotation in string.gmatch(found[4] or '', '(%S+) (%d+) (%S+)') do
    keep(secret, ends, rotation)
  end
  return lines, first
end
local current = redis.call('HMGET', KEYS[1], 'webhook_secret', 'rotation')
if not current[1] then
  return {'gone', ''}
end
if current[2] == ARGV[1] then
  return {'ok', ARGV[1]}
end
if ARGV[5] ~= '' then
  local known = redis.call('HMGET', KEYS[2], 'fingerprint', 'request')
  if known[1] then
    if known[1] == ARGV[5] then
      return {'ok', known[2]}
    end
    return {'reuse', ''}
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lines, first = live(now)
if #lines >= tonumber(ARGV[4]) then
  return {'full', first - now}
end
redis.call('HSET', KEYS[1], 'webhook_secret', ARGV[2], 'rotation', ARGV[1], 'previous_secret', current[1],
  'previous_expires_at', string.format('%.0f', now + tonumber(ARGV[3])), 'previous_rotation', current[2] or '-',
  'older_secrets', table.concat(lines, '\n'))
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[2], 'fingerprint', ARGV[5], 'request', ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[6])
end
return {'ok', ARGV[1]}
