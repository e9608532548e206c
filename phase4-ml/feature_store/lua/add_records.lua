-- Add users' new payments and labels, and remove payments that are too old or too many.
-- KEYS: user_events:{user_id} and user_labels:{user_id} of each user
-- ARGV: the data clock, how long before it or before the user's newest payment others are kept (ms), payments to keep,
--       expiry in seconds, then for each user the number of payments, their members, the number of labels, theirs
-- Returns the number of each user of whom payments were removed because there are too many, and how many.
local clock, keep, max_payments, expiry = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local argument = 5

local function add_all(key)
  local last = argument + tonumber(ARGV[argument])
  for member = argument + 1, last do redis.call('ZADD', key, 0, ARGV[member]) end
  local added = last - argument
  argument = last + 1
  return added
end

local trimmed = {}
for user = 1, #KEYS, 2 do
  local events, labels = KEYS[user], KEYS[user + 1]
  if add_all(events) > 0 then
    -- The event time is the first 43 bits of a member, here in 48.
    local newest = math.floor(struct.unpack('>I6', redis.call('ZRANGE', events, -1, -1)[1]) / 32)
    local first_kept = math.min(newest, clock) - keep
    if first_kept > 0 then
      redis.call('ZREMRANGEBYLEX', events, '-', '(' .. struct.pack('>I6', first_kept * 32))
    end
    redis.call('EXPIRE', events, expiry)
    local removed = redis.call('ZREMRANGEBYRANK', events, 0, -max_payments - 1)
    if removed > 0 then
      trimmed[#trimmed + 1] = (user + 1) / 2
      trimmed[#trimmed + 1] = removed
    end
  end
  add_all(labels)
end
return trimmed
