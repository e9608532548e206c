-- Add to totals.
-- KEYS: merchant_days:{number} or device_frauds:{number}, once for each total
-- ARGV: for each total the field, and what to add
-- Returns the numbers of the totals that are now what was added, so those of new fields.
local new = {}
for total = 1, #KEYS do
  local name, change = ARGV[2 * total - 1], ARGV[2 * total]
  if redis.call('HINCRBY', KEYS[total], name, change) == tonumber(change) then new[#new + 1] = total end
end
return new
