-- BudgetStore.reserve in one atomic step; see seawall/stores/redis_store.py for the keys.
local id, micro, expires, limit = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local now, remembered, keep, most = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local expired = {}

-- Leases go by this server's clock: a worker whose own is wrong must not end those of the others.
if now == '' then
  local clock = redis.call('TIME')
  local seconds = clock[1] + clock[2] / 1000000
  now, expires = string.format('%.6f', seconds), string.format('%.6f', seconds + ARGV[11])
end

local function lasting(key)
  if redis.call('PTTL', key) == -1 then redis.call('EXPIRE', key, keep) end
end

-- Charge what its lease has left behind (the total holds it already), and forget what was closed long ago.
local function sweep(open, amounts, closed, day)
  local due = redis.call('ZRANGEBYSCORE', open, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  for n = 1, #due, 2 do
    local lost = due[n]
    expired[#expired + 1] = {lost, day, redis.call('HGET', amounts, lost), due[n + 1]}
    redis.call('ZREM', open, lost)
    redis.call('HDEL', amounts, lost)
    redis.call('ZADD', closed, due[n + 1] + remembered, lost, due[n + 1] + remembered, '!' .. lost)
  end
  if #due > 0 then lasting(closed) end
  local old = redis.call('ZRANGEBYSCORE', closed, '-inf', now, 'LIMIT', 0, most)
  if #old > 0 then redis.call('ZREM', closed, unpack(old)) end
end

sweep(KEYS[2], KEYS[3], KEYS[4], ARGV[9])
sweep(KEYS[6], KEYS[7], KEYS[8], ARGV[10])
local total = tonumber(redis.call('GET', KEYS[1]) or '0')
local adjusted = 0
for _, delta in ipairs(redis.call('HVALS', KEYS[5])) do adjusted = adjusted + delta end
local accepted = redis.call('HEXISTS', KEYS[3], id)
if accepted == 0 and not redis.call('ZSCORE', KEYS[4], id) and total + math.max(0, adjusted) + micro <= limit then
  accepted = 1
  total = redis.call('INCRBY', KEYS[1], ARGV[2])
  redis.call('HSET', KEYS[3], id, ARGV[2])
  redis.call('ZADD', KEYS[2], expires, id)
  for n = 1, 3 do lasting(KEYS[n]) end
  redis.call('SET', KEYS[9], string.format('%d.%06d', math.floor(total / 1000000), total % 1000000), 'EX', keep)
end
return {accepted, total, adjusted, expired}
