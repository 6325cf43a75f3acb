#!lua flags=no-writes
-- Reads states and wake-ups of the given borrowers, only where the copy stands at the given commit; for audits.
-- KEYS: meta, wakes, then the key of each borrower. ARGV: fence, applied, then each borrower.
local held = redis.call('HMGET', KEYS[1], 'fence', 'applied', 'pending')
local fence, applied, pending = held[1], held[2] or '', held[3]
if fence and tonumber(fence) > tonumber(ARGV[1]) then return {'FENCED', fence} end
if fence ~= ARGV[1] or applied ~= ARGV[2] or pending then return {'STALE', applied} end
-- Who has no wake-up stands at no moment.
local count = redis.call('ZCOUNT', KEYS[2], '-inf', '(+inf')
if #KEYS == 2 then return {'OK', {}, {}, count} end
local states = redis.call('MGET', unpack(KEYS, 3))
local moments = redis.call('ZMSCORE', KEYS[2], unpack(ARGV, 3))
-- Scores come as floating-point numbers; moments are whole and far below their limit.
for i = 1, #moments do
  local moment = moments[i] and tonumber(moments[i].double or moments[i])
  moments[i] = moment and moment < math.huge and string.format('%.0f', moment)
end
return {'OK', states, moments, count}
