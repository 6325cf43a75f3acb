#!lua
-- Copies one commit, or one part of a large one.
-- KEYS: meta, task, wakes, failures, written, then the key of each changed borrower.
-- ARGV: fence, applied before ('' = none), applied after, read_from, '1' if more parts follow, task state ('' = as it was),
--       bound below which failures are dropped ('' = none), number of wake-ups dropped, number of failures added, then the
--       state of each changed borrower ('' = erase it), then each borrower whose wake-up is dropped, then each failure
--       added, then moment, borrower, moment, borrower ... of each wake-up set.
local held = redis.call('HMGET', KEYS[1], 'fence', 'applied', 'pending')
local fence, applied, pending = held[1], held[2] or '', held[3]
if not fence or tonumber(fence) < tonumber(ARGV[1]) then return {'STALE', applied} end
if tonumber(fence) > tonumber(ARGV[1]) then return {'FENCED', fence} end
if applied == ARGV[3] then return {'OK'} end
if applied ~= ARGV[2] then return {'STALE', applied} end
if pending and pending ~= ARGV[3] then return {'TORN', pending} end

-- One call for many arguments is several times as fast as a call each; Lua's stack (8,000) bounds how many.
local first_state, states = 10, #KEYS - 5
local name_at = #KEYS[1] - 1

-- A failure is day (7 digits), '|', borrower: there are as many of one borrower as the index has days, at most.
local function forget_failures(name)
  local first, last = redis.call('ZRANGE', KEYS[4], 0, 0)[1], redis.call('ZRANGE', KEYS[4], -1, -1)[1]
  if not first then return end
  for day = tonumber(string.sub(first, 1, 7)), tonumber(string.sub(last, 1, 7)) do
    redis.call('ZREM', KEYS[4], string.format('%07d|', day) .. name)
  end
end

for i = 0, states - 1, 2000 do
  local call, places, n = {}, {}, 0
  for j = i, math.min(i + 2000, states) - 1 do
    local key, state = KEYS[6 + j], ARGV[first_state + j]
    local name = string.sub(key, name_at)
    if state == '' then
      redis.call('UNLINK', key)
      redis.call('ZREM', KEYS[5], name)
      forget_failures(name)
    else
      call[n + 1], call[n + 2] = key, state
      places[n + 1], places[n + 2] = ARGV[3], name
      n = n + 2
    end
  end
  if n > 0 then
    redis.call('MSET', unpack(call))
    -- Where in the commit log each state stands: for the rolling snapshot, and so that `load` misses one that vanishes.
    redis.call('ZADD', KEYS[5], unpack(places))
  end
end
if ARGV[5] == '1' then
  -- `load` refuses until the last part is in; a part copied twice is the same.
  redis.call('HSET', KEYS[1], 'pending', ARGV[3])
  return {'OK'}
end

local first_dropped = first_state + states
local first_failure = first_dropped + tonumber(ARGV[8])
local first_set = first_failure + tonumber(ARGV[9])
for i = first_dropped, first_failure - 1, 4000 do
  redis.call('ZREM', KEYS[3], unpack(ARGV, i, math.min(i + 3999, first_failure - 1)))
end
for i = first_failure, first_set - 1, 2000 do
  local call, n = {}, 0
  for j = i, math.min(i + 1999, first_set - 1) do
    call[n + 1] = 0
    call[n + 2] = ARGV[j]
    n = n + 2
  end
  redis.call('ZADD', KEYS[4], unpack(call))
end
if ARGV[7] ~= '' then redis.call('ZREMRANGEBYLEX', KEYS[4], '-', ARGV[7]) end
for i = first_set, #ARGV, 4000 do
  redis.call('ZADD', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'task', '1')
  redis.call('SET', KEYS[2], ARGV[6])
end
redis.call('HSET', KEYS[1], 'applied', ARGV[3], 'read_from', ARGV[4])
redis.call('HDEL', KEYS[1], 'pending')
return {'OK'}
