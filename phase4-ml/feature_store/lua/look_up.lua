-- What Redis has of some payments and of the labels on them, whichever of the two came first.
-- KEYS: user_events:{user_id} and user_labels:{user_id} of each user
-- ARGV: for each user, a number of payments, then their keys, 8 bytes each
-- Returns for each payment of which there is anything: its number in the order of ARGV, the members of the payment, and
--         those of its labels.
local found, payment, argument = {}, 0, 1
for user = 1, #KEYS, 2 do
  local last = argument + tonumber(ARGV[argument])
  for number = argument + 1, last do
    payment = payment + 1
    -- Every member that begins with the key, and nothing else.
    local first, after = '[' .. ARGV[number], '[' .. ARGV[number] .. string.rep('\255', 17)
    local events = redis.call('ZRANGEBYLEX', KEYS[user], first, after)
    local labels = redis.call('ZRANGEBYLEX', KEYS[user + 1], first, after)
    if #events > 0 or #labels > 0 then found[#found + 1] = {payment, events, labels} end
  end
  argument = last + 1
end
return found
