-- Note the users of devices: of each day the users who paid first, and when.
-- KEYS: device_users:{number}, once for each user and day
-- ARGV: the data clock, how long before it or before the device's newest payment others are kept (ms), how many of the
--       newest days are kept whatever these say, how many users of a day are kept, expiry in seconds, then for each key
--       the member and the event time of a payment
local clock, keep, days_at_least = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local counted, expiry = tonumber(ARGV[4]), ARGV[5]
local day = 86400000
-- Days are counted only after so many more members, so that it costs little for each.
local spare = 8

-- The start of the device's oldest day that is kept in any case; nil if it has fewer days.
local function first_of_newest_days(users)
  local newest_first, days, first = redis.call('ZREVRANGE', users, 0, -1, 'WITHSCORES'), 0, nil
  for score = 2, #newest_first, 2 do
    local start = tonumber(newest_first[score])
    start = start - start % day
    if start ~= first then
      days, first = days + 1, start
      if days == days_at_least then return first end
    end
  end
end

for number, users in ipairs(KEYS) do
  local member, event_time = ARGV[2 * number + 4], tonumber(ARGV[2 * number + 5])
  -- An earlier payment of the same day replaces a later one, in whatever order they arrive.
  if redis.call('ZADD', users, 'LT', event_time, member) == 1 then
    local first = event_time - event_time % day
    local last = first + day - 1
    if redis.call('ZCOUNT', users, first, last) > counted then
      redis.call('ZREM', users, redis.call('ZREVRANGEBYSCORE', users, last, first, 'LIMIT', 0, 1)[1])
    end
    local newest = tonumber(redis.call('ZRANGE', users, -1, -1, 'WITHSCORES')[2])
    -- Whole days, since windows of devices begin with one.
    local first_kept = math.floor(math.min(newest, clock) / day) * day - keep
    local too_old = '(' .. string.format('%.0f', first_kept)
    if redis.call('ZCARD', users) > days_at_least + spare and redis.call('ZCOUNT', users, '-inf', too_old) > 0 then
      local first_in_any_case = first_of_newest_days(users)
      if first_in_any_case then
        first_kept = string.format('%.0f', math.min(first_kept, first_in_any_case))
        redis.call('ZREMRANGEBYSCORE', users, '-inf', '(' .. first_kept)
      end
    end
    redis.call('EXPIRE', users, expiry)
  end
end
