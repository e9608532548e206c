-- Record up to where Redis is complete, unless positions that were there before are gone: then Redis was emptied.
-- KEYS: feature_stream:positions, :data_clock, :newest_users, :complete
-- ARGV: DATA_CLOCK_RANK, the number of partitions of transactions.raw, and four lists, each after its length:
--       names of partitions that must be there
--       event time and user of the newest payments that were written
--       number of a partition of transactions.raw, and the arrival time up to which it is complete
--       name and offset of each partition to record
-- Returns 1, or 0 if Redis was emptied; then nothing is recorded.
local positions, clock, newest_users, complete = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local rank, size = tonumber(ARGV[1]), 8 * tonumber(ARGV[2])
local last_read = 2
local function next_list()
  local first = last_read + 2
  last_read = last_read + 1 + tonumber(ARGV[last_read + 1])
  return {unpack(ARGV, first, last_read)}
end

for _, name in ipairs(next_list()) do
  if redis.call('HEXISTS', positions, name) == 0 then return 0 end
end

local payments = next_list()
if #payments > 0 then
  local users_before = redis.call('ZCARD', newest_users)
  redis.call('ZADD', newest_users, 'GT', unpack(payments))
  redis.call('ZREMRANGEBYRANK', newest_users, 0, -rank - 1)
  local found = redis.call('ZRANGE', newest_users, 0, 0, 'WITHSCORES')[2]
  local before = tonumber(redis.call('GET', clock) or 0)
  -- It never runs backwards. Before there are as many users as its rank, it is whatever the oldest of them says, so
  -- that a wrong first row does not stop it for ever.
  if users_before < rank or tonumber(found) > before then redis.call('SET', clock, found) end
end

if redis.call('STRLEN', complete) < size then redis.call('SETRANGE', complete, size - 1, '\0') end
local times = next_list()
for item = 1, #times, 2 do
  redis.call('SETRANGE', complete, 8 * tonumber(times[item]), struct.pack('>I8', tonumber(times[item + 1])))
end

local reached = next_list()
if #reached > 0 then redis.call('HSET', positions, unpack(reached)) end
return 1
