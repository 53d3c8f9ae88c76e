-- Settles a replica's account with a shared bucket: KEYS bucket; ARGV tokens a minute, burst, tokens owed, tokens
-- given back, tokens wanted. Returns {tokens granted, tokens left, microseconds until there is one}.
-- The bucket is two numbers: microseconds until it is full, and the server's time of which that is true. It is
-- forgotten when it is full.
local burst, wanted = tonumber(ARGV[2]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = 60000000 / ARGV[1]
local full_in = 0
local stored = redis.call('GET', KEYS[1])
if stored then
  local rest, since = string.match(stored, '(%S+) (%S+)')
  -- A clock that was set back lets no time pass, and locks nobody out.
  full_in = math.max(rest - math.max(now - since, 0), 0)
end
-- What several replicas spent at once before they asked is a debt. It is bounded, so that a limit that was lowered
-- locks nobody out for long.
full_in = math.min(math.max(full_in + (ARGV[3] - ARGV[4]) * interval, 0), 16 * burst * interval)
local level = burst - full_in / interval
-- As long as there is plenty, a lease is large enough to make asking rare for a slow caller too.
if wanted > 0 and 2 * level >= burst then
  wanted = math.max(wanted, math.floor(burst / 8))
end
local granted = math.max(math.min(wanted, math.floor(level)), 0)
level, full_in = level - granted, full_in + granted * interval
if full_in >= 1 then
  redis.call('SET', KEYS[1], string.format('%.1f %.0f', full_in, now), 'PX', math.ceil(full_in / 1000))
else
  redis.call('DEL', KEYS[1])
end
return { granted, math.max(math.floor(level), 0), math.max(math.ceil((1 - level) * interval), 0) }
