-- Takes the next event for a consumer, an abandoned one first:
-- KEYS stream, dead letters; ARGV group, consumer, visibility timeout in milliseconds, attempts, capacity.
-- Returns {event or false, dead letters made, keys of the first of them, milliseconds until the next one may be abandoned
-- or -1}; an event is {id, key, payload, attempt}.
local stream, dead, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local timeout, attempts = tonumber(ARGV[3]), tonumber(ARGV[4])
local letters, keys = 0, {}

local function event(entry, attempt)
  local is = {}
  for i = 1, #entry[2], 2 do
    is[entry[2][i]] = entry[2][i + 1]
  end
  return { entry[1], is['key'], is['payload'], attempt }
end

local function abandoned()
  return redis.pcall('XPENDING', stream, group, 'IDLE', timeout, '-', '+', 16)
end

local idle = abandoned()
if idle.err then
  -- The group is unknown: it is new, or Redis was emptied.
  redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  idle = {}
end
while #idle > 0 do
  for _, pending in ipairs(idle) do
    local id, count = pending[1], pending[4]
    if count < attempts then
      local claimed = redis.call('XCLAIM', stream, group, consumer, timeout, id)
      -- Nothing is claimed when the event itself is gone.
      if claimed[1] then
        return { event(claimed[1], count + 1), letters, keys, -1 }
      end
    else
      local found = redis.call('XRANGE', stream, id, id)
      if found[1] then
        local letter = event(found[1], count)
        redis.call('XADD', dead, 'MAXLEN', ARGV[5], '*', 'id', id, 'key', letter[2], 'payload', letter[3])
        letters = letters + 1
        if letters <= 16 then
          keys[letters] = letter[2]
        end
      end
    end
    redis.call('XACK', stream, group, id)
  end
  idle = abandoned()
end

local fresh = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
if fresh then
  return { event(fresh[1][2][1], 1), letters, keys, -1 }
end
local wait = -1
for _, pending in ipairs(redis.call('XPENDING', stream, group, '-', '+', 64)) do
  local left = math.max(timeout - pending[3], 1)
  if wait < 0 or left < wait then
    wait = left
  end
end
if letters > 0 then
  trim(stream)
end
return { false, letters, keys, wait }
