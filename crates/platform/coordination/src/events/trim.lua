-- Drops what every group has finished with.
local function trim(stream)
  local needed_time, needed_number
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local is = {}
    for i = 1, #group, 2 do
      is[group[i]] = group[i + 1]
    end
    local first, step = is['last-delivered-id'], 1
    if is['pending'] > 0 then
      first, step = redis.call('XPENDING', stream, is['name'])[2], 0
    end
    local time, number = string.match(first, '(%d+)-(%d+)')
    time, number = tonumber(time), tonumber(number) + step
    if not needed_time or time < needed_time or (time == needed_time and number < needed_number) then
      needed_time, needed_number = time, number
    end
  end
  if needed_time then
    redis.call('XTRIM', stream, 'MINID', string.format('%.0f-%.0f', needed_time, needed_number))
  end
  return needed_time ~= nil
end
