#!lua
-- Copies one commit, or one part of a large one.
-- KEYS: meta, task, wakes, failures, then the key of each changed borrower.
-- ARGV: fence, applied before ('' = none), applied after, read_from, '1' if more parts follow, task state ('' = as it was),
--       bound below which failures are dropped ('' = none), then the state of each changed borrower ('' = erase it), then
--       the next wake-up of each ('+inf' = none, '' = as it was), then each failure added.
local held = redis.call('HMGET', KEYS[1], 'fence', 'applied', 'pending')
local fence, applied, pending = held[1], held[2] or '', held[3]
if not fence or tonumber(fence) < tonumber(ARGV[1]) then return {'STALE', applied} end
if tonumber(fence) > tonumber(ARGV[1]) then return {'FENCED', fence} end
if applied == ARGV[3] then return {'OK'} end
if applied ~= ARGV[2] then return {'STALE', applied} end
if pending and pending ~= ARGV[3] then return {'TORN', pending} end

-- One call for many arguments is several times as fast as a call each; Lua's stack (8,000) bounds how many.
local first_state, states = 8, #KEYS - 4
local first_moment = first_state + states
local first_failure = first_moment + states
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
  local call, told, others, n = {}, {}, {'NX'}, 0
  for j = i, math.min(i + 2000, states) - 1 do
    local key, state, moment = KEYS[5 + j], ARGV[first_state + j], ARGV[first_moment + j]
    local name = string.sub(key, name_at)
    if state == '' then
      redis.call('UNLINK', key)
      redis.call('ZREM', KEYS[3], name)
      forget_failures(name)
    else
      call[n + 1], call[n + 2] = key, state
      n = n + 2
      if moment ~= '' then
        told[#told + 1], told[#told + 2] = moment, name
      else
        others[#others + 1], others[#others + 2] = '+inf', name
      end
    end
  end
  if n > 0 then redis.call('MSET', unpack(call)) end
  -- Who has no wake-up stands among them too, at no moment: `load` misses a state that vanishes, `roll` meets everybody.
  if #told > 0 then redis.call('ZADD', KEYS[3], unpack(told)) end
  if #others > 1 then redis.call('ZADD', KEYS[3], unpack(others)) end
end
if ARGV[5] == '1' then
  -- `load` refuses until the last part is in; a part copied twice is the same.
  redis.call('HSET', KEYS[1], 'pending', ARGV[3])
  return {'OK'}
end

for i = first_failure, #ARGV, 2000 do
  local call, n = {}, 0
  for j = i, math.min(i + 1999, #ARGV) do
    call[n + 1] = 0
    call[n + 2] = ARGV[j]
    n = n + 2
  end
  redis.call('ZADD', KEYS[4], unpack(call))
end
if ARGV[7] ~= '' then redis.call('ZREMRANGEBYLEX', KEYS[4], '-', ARGV[7]) end
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'task', '1')
  redis.call('SET', KEYS[2], ARGV[6])
end
redis.call('HSET', KEYS[1], 'applied', ARGV[3], 'read_from', ARGV[4])
redis.call('HDEL', KEYS[1], 'pending')
return {'OK'}
