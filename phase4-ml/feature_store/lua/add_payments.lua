-- Add a user's new payments, and remove those that are too old or too many: one command instead of five per user.
-- KEYS: user_events:{user_id}
-- ARGV: the data clock, how long before it or before the user's newest payment others are kept (ms), payments to keep,
--       expiry in seconds, then the members to add
-- Returns how many payments were removed because the user has too many.
local key, clock, keep, max_payments, expiry = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
for argument = 5, #ARGV do redis.call('ZADD', key, 0, ARGV[argument]) end
-- The event time is the first 43 bits of a member, here in 48.
local newest = math.floor(struct.unpack('>I6', redis.call('ZRANGE', key, -1, -1)[1]) / 32)
local first_kept = math.min(newest, clock) - keep
if first_kept > 0 then
  redis.call('ZREMRANGEBYLEX', key, '-', '(' .. struct.pack('>I6', first_kept * 32))
end
redis.call('EXPIRE', key, expiry)
return redis.call('ZREMRANGEBYRANK', key, 0, -max_payments - 1)
