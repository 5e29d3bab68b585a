-- BudgetStore.adjust in one atomic step; see seawall/stores/redis_store.py for the keys.
local applied = redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
if redis.call('PTTL', KEYS[2]) == -1 then redis.call('EXPIRE', KEYS[2], ARGV[3]) end
local adjusted = 0
for _, delta in ipairs(redis.call('HVALS', KEYS[2])) do adjusted = adjusted + delta end
return {applied, tonumber(redis.call('GET', KEYS[1]) or '0'), adjusted, {}}
