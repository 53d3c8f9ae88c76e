-- Settles a replica's account with a shared bucket: KEYS bucket; ARGV tokens a minute, burst, tokens owed, tokens
-- given back, tokens wanted. Returns {tokens granted, tokens left, microseconds until there is one}.
-- The bucket is the time at which it is full again, by the server's clock, and is forgotten when it is.
local burst, wanted = tonumber(ARGV[2]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = 60000000 / ARGV[1]
local full_in = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') - now, 0) + (ARGV[3] - ARGV[4]) * interval
-- What several replicas spent at once before they asked is a debt. It is bounded, so that a lowered limit or a clock
-- that is set back locks nobody out for long.
full_in = math.min(math.max(full_in, 0), 16 * burst * interval)
local level = burst - full_in / interval
local granted = math.max(math.min(wanted, math.floor(level)), 0)
level, full_in = level - granted, full_in + granted * interval
if full_in >= 1 then
  redis.call('SET', KEYS[1], string.format('%.1f', now + full_in), 'PX', math.ceil(full_in / 1000))
else
  redis.call('DEL', KEYS[1])
end
return { granted, math.max(math.floor(level), 0), math.max(math.ceil((1 - level) * interval), 0) }
