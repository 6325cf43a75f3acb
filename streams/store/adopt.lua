#!lua
-- Moves borrowers from the index that layouts before had of them to the wake-ups, where they stand at no moment if they
-- have none; called again until nobody is left.
-- KEYS: meta, wakes, the index of before. ARGV: fence, most borrowers (within Lua's stack).
local fence = redis.call('HGET', KEYS[1], 'fence')
if fence and tonumber(fence) > tonumber(ARGV[1]) then return {'FENCED', fence} end
if fence ~= ARGV[1] then return {'STALE', redis.call('HGET', KEYS[1], 'applied') or ''} end
local moved, call = redis.call('ZPOPMIN', KEYS[3], ARGV[2]), {'NX'}
for i = 1, #moved, 2 do
  call[#call + 1], call[#call + 2] = '+inf', moved[i]
end
if #call > 1 then redis.call('ZADD', KEYS[2], unpack(call)) end
return {'OK', redis.call('EXISTS', KEYS[3])}
