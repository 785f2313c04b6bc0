-- Reads an account's credits, whose numbers must be such that can be counted with exactly.
--
-- credits  hash
-- Returns  balance and held, or nothing where one of them is no whole number of 15 digits at most
local function whole(text)
  local digits = string.match(text, '^%-?(%d+)$')
  return digits and #digits <= 15 and tonumber(text)
end
local function credits_of(credits)
  local found = redis.call('HMGET', credits, 'balance', 'held')
  local balance, held = whole(found[1] or '0'), whole(found[2] or '0')
  if balance and held then
    return balance, held
  end
end
