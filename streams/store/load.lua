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
local function read(keys, from)
  local states, n = {}, 0
  for i = from, #keys, 4000 do
    for _, state in ipairs(redis.call('MGET', unpack(keys, i, math.min(i + 3999, #keys)))) do
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
return {'OK', read(KEYS, 4), due, read(due_keys, 1), failed, read(failed_keys, 1)}
