-- Marks an event as handled: KEYS stream; ARGV group, id.
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) > 0 then
  trim(KEYS[1])
end
