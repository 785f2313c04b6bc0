-- Counts how long requests took, for the histogram of /metrics.
--
-- stats  hash of counters
-- seconds from accepted to ended, of each
-- count  of them
-- Returns  nothing
local function took(stats, seconds, count)
  redis.call('HINCRBYFLOAT', stats, 'job_seconds_sum', seconds * count)
  for _, bound in ipairs({0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}) do
    if seconds <= bound then
      redis.call('HINCRBY', stats, 'job_seconds:' .. bound, count)
      break
    end
  end
end
