-- Tells a channel who receives from it: ARGV channel, kind, microseconds (0: now), token.
-- It touches no key. The time is the server's, so receivers on machines whose clocks differ agree on the order.
local time = ARGV[3]
if time == '0' then
  local now = redis.call('TIME')
  time = string.format('%.0f', now[1] * 1000000 + now[2])
end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. time .. ':' .. ARGV[4])
