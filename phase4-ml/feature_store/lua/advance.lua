-- Record up to where Redis is complete, unless positions that were there before are gone: then Redis was emptied.
-- KEYS: feature_stream:positions, feature_stream:clock
-- ARGV: the newest event time, the number of partitions that must be there, their names,
--       then name and offset of each partition to record
-- Returns 1, or 0 if Redis was emptied; then nothing is recorded.
local positions, clock, newest, required = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
for argument = 3, required + 2 do
  if redis.call('HEXISTS', positions, ARGV[argument]) == 0 then return 0 end
end
redis.call('SET', clock, newest)
redis.call('HSET', positions, unpack(ARGV, required + 3))
return 1
