-- BudgetStore.settle in one atomic step; see seawall/stores/redis_store.py for the keys.
local id, paid, forget, keep, today = ARGV[1], tonumber(ARGV[2]), ARGV[4], ARGV[5], ARGV[6]
local total = tonumber(redis.call('GET', KEYS[1]) or '0')
local adjusted = 0
for _, delta in ipairs(redis.call('HVALS', KEYS[5])) do adjusted = adjusted + delta end
if redis.call('ZSCORE', KEYS[4], '!' .. id) then return {0, total, adjusted, {}} end
if redis.call('ZSCORE', KEYS[4], id) then return {1, total, adjusted, {}} end
local held = redis.call('HGET', KEYS[3], id)
-- An id never seen: under an allowance, or forgotten. Booked all the same, and remembered if its reservation comes late.
paid = math.min(paid, tonumber(held or ARGV[3]))
total = redis.call('INCRBY', KEYS[1], string.format('%d', paid - (held or 0)))
forget = (redis.call('ZSCORE', KEYS[2], id) or (forget - ARGV[7])) + ARGV[7]
redis.call('ZREM', KEYS[2], id)
redis.call('HDEL', KEYS[3], id)
redis.call('ZADD', KEYS[4], forget, id)
for _, key in ipairs({KEYS[1], KEYS[4]}) do
  if redis.call('PTTL', key) == -1 then redis.call('EXPIRE', key, keep) end
end
if today == '1' then
  redis.call('SET', KEYS[6], string.format('%d.%06d', math.floor(total / 1000000), total % 1000000), 'EX', keep)
end
return {1, total, adjusted, {}}
