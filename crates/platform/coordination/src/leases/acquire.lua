-- Takes a lease that nobody holds: KEYS lease, last fence; ARGV owner, milliseconds. Returns the fence or nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
-- Beginning with the server's time, fences also grow when the last one was forgotten. Microseconds since 1970 stay
-- below 2^53 until 2255, so a Lua number holds them exactly.
local now = redis.call('TIME')
local fence = math.max(now[1] * 1000000 + now[2], tonumber(redis.call('GET', KEYS[2]) or '0') + 1)
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[1], text .. ':' .. ARGV[1], 'PX', ARGV[2])
-- Needed only against a clock that is set back, as that of another server may be that takes over.
redis.call('SET', KEYS[2], text, 'PX', ARGV[2] + 600000)
return fence
