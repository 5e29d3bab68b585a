-- Tell and ask how all providers stand, in one atomic step; see seawall/shared_breakers.py for the keys.
local me, lease_ms, ahead_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = {}

local function told(key, field) return tonumber(redis.call('HGET', key, field) or '0') end

for n = 1, #KEYS, 2 do
  local key, probe, at = KEYS[n], KEYS[n + 1], (n - 1) / 2 * 5 + 4
  local state, open_ms, cause, cooling_ms, wants = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  if state ~= '' then
    local ends = now + open_ms
    if state == 'open' and redis.call('HGET', key, 'state') == 'open' then ends = math.max(ends, told(key, 'ends')) end
    local version = string.format('%d:%s', now, me)
    redis.call('HSET', key, 'state', state, 'ends', string.format('%d', ends), 'cause', cause, 'by', me)
    redis.call('HSET', key, 'version', version)
    if redis.call('GET', probe) == me then redis.call('DEL', probe) end
  end
  if cooling_ms ~= '0' then
    redis.call('HSET', key, 'cooling', string.format('%d', math.max(now + cooling_ms, told(key, 'cooling'))))
  end
  if state ~= '' or cooling_ms ~= '0' then
    local last = math.max(now, told(key, 'ends'), told(key, 'cooling'))
    redis.call('PEXPIRE', key, string.format('%d', last - now + 2 * lease_ms))
  end
  local owner = redis.call('GET', probe)
  local rests = redis.call('HGET', key, 'state') == 'open' and told(key, 'ends') > now + ahead_ms
  if wants == '1' and not rests and (not owner or owner == me) then
    redis.call('SET', probe, me, 'PX', ARGV[2])
    owner = me
  end
  answers[#answers + 1] = {
    redis.call('HGET', key, 'version') or '', redis.call('HGET', key, 'state') or '', told(key, 'ends') - now,
    redis.call('HGET', key, 'cause') or '', redis.call('HGET', key, 'by') or '', told(key, 'cooling') - now,
    owner == me and 1 or 0,
  }
end
return answers
