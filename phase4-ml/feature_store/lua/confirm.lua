-- A partition has nothing that is not in Redis: it is complete up to now, unless its position in Redis is before its end.
-- KEYS: feature_stream:positions, feature_stream:complete
-- ARGV: the number of partitions of transactions.raw; the partition's number, its name, its end as an offset, now in ms
-- Returns 1 if it is recorded, 0 if Redis lacks something, as after it was emptied.
local positions, complete, size = KEYS[1], KEYS[2], 8 * tonumber(ARGV[1])
local number, name, its_end, now = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if tonumber(redis.call('HGET', positions, name) or 0) < its_end then return 0 end
if redis.call('STRLEN', complete) < size then redis.call('SETRANGE', complete, size - 1, '\0') end
redis.call('SETRANGE', complete, 8 * number, struct.pack('>I8', now))
return 1
