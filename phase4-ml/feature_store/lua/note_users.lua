-- Note the users of devices: of each day the users who paid first, and when.
-- KEYS: device_users:{number}, once for each user and day
-- ARGV: the data clock, how long before it or before the device's newest payment others are kept (ms), how many users of
--       a day are kept, expiry in seconds, then for each key the member and the event time of a payment
local clock, keep, counted, expiry = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local day = 86400000

for number, users in ipairs(KEYS) do
  local member, event_time = ARGV[2 * number + 3], tonumber(ARGV[2 * number + 4])
  -- An earlier payment of the same day replaces a later one, in whatever order they arrive.
  if redis.call('ZADD', users, 'LT', event_time, member) == 1 then
    local first = event_time - event_time % day
    local last = first + day - 1
    if redis.call('ZCOUNT', users, first, last) > counted then
      redis.call('ZREM', users, redis.call('ZREVRANGEBYSCORE', users, last, first, 'LIMIT', 0, 1)[1])
    end
    local newest = tonumber(redis.call('ZRANGE', users, -1, -1, 'WITHSCORES')[2])
    -- Whole days, since windows of devices begin with one.
    local newest_day = math.floor(math.min(newest, clock) / day) * day
    redis.call('ZREMRANGEBYSCORE', users, '-inf', '(' .. string.format('%.0f', newest_day - keep))
    redis.call('EXPIRE', users, expiry)
  end
end
