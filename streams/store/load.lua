#!lua flags=no-writes
-- Reads states and due wake-ups, only where the copy stands at the caller's commit.
-- KEYS: meta, wakes, failures, then each key to read.
-- ARGV: fence, applied, due until ('' = no wake-ups), most wake-ups and most failures, prefix of a borrower's key, then the
--       bounds of the failures asked for ('' = none). A failure is day (7 digits), '|', borrower.
-- The keys of due and failed borrowers are not known to the caller; they carry the same hash tag, so they are on this node.
local held = redis.call('HMGET', KEYS[1], 'fence', 'applied', 'pending')
local fence, applied, pending = held[1], held[2] or '', held[3]
if fence and tonumber(fence) > tonumber(ARGV[1]) then return {'FENCED', fence} end
if fence ~= ARGV[1] or applied ~= ARGV[2] or pending then return {'STALE', applied} end

local due = {}
if ARGV[3] ~= '' then
  due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[3], 'WITHSCORES', 'LIMIT', 0, ARGV[4])
end

-- One call for many keys is faster than a call each; Lua's stack (8,000) bounds how many.
local is_lost = false
-- Whether a key was there and is not any more: deleted by hand, or evicted. Few have no state, only those who are new.
local function was_there(key)
  if string.sub(key, 1, #ARGV[5]) ~= ARGV[5] then return redis.call('HEXISTS', KEYS[1], 'task') == 1 end
  return redis.call('ZSCORE', KEYS[2], string.sub(key, #ARGV[5] + 1)) and true
end

local function read(keys, from)
  local states, n = {}, 0
  for i = from, #keys, 4000 do
    for _, state in ipairs(redis.call('MGET', unpack(keys, i, math.min(i + 3999, #keys)))) do
      if not state and was_there(keys[from + n]) then is_lost = true end
      n = n + 1
      states[n] = state
    end
  end
  return states
end

local failed = {}
if ARGV[6] ~= '' then
  failed = redis.call('ZRANGEBYLEX', KEYS[3], ARGV[6], ARGV[7], 'LIMIT', 0, ARGV[4])
end

local due_keys, failed_keys = {}, {}
for i = 1, #due, 2 do due_keys[#due_keys + 1] = ARGV[5] .. due[i] end
for i = 1, #failed do failed_keys[i] = ARGV[5] .. string.sub(failed[i], 9) end
local asked_states, due_states, failed_states = read(KEYS, 4), read(due_keys, 1), read(failed_keys, 1)
if is_lost then return {'LOST'} end
return {'OK', asked_states, due, due_states, failed, failed_states}
