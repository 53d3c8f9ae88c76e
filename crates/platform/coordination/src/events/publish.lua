-- Appends an event: KEYS stream; ARGV capacity, key, payload, bell. Returns 1, or 0 without room.
local stream, capacity = KEYS[1], tonumber(ARGV[1])
if redis.call('XLEN', stream) >= capacity then
  if trim(stream) then
    if redis.call('XLEN', stream) >= capacity then
      return 0
    end
  else
    -- No group: the oldest event makes room.
    redis.call('XTRIM', stream, 'MAXLEN', capacity - 1)
  end
end
redis.call('XADD', stream, '*', 'key', ARGV[2], 'payload', ARGV[3])
redis.call('PUBLISH', ARGV[4], '')
return 1
