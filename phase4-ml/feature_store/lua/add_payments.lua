-- Add a user's new payments, and remove those that are too old or too many: one command instead of four per user.
-- KEYS: user_events:{user_id}
-- ARGV: the first member to keep, payments to keep, expiry in seconds, then the members to add
-- Returns how many payments were removed because the user has too many.
local key, first_kept, max_payments, expiry = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
for argument = 4, #ARGV do redis.call('ZADD', key, 0, ARGV[argument]) end
redis.call('ZREMRANGEBYLEX', key, '-', first_kept)
redis.call('EXPIRE', key, expiry)
return redis.call('ZREMRANGEBYRANK', key, 0, -max_payments - 1)
