#!lua flags=no-writes
-- Reads the borrowers whose states stand furthest back in the commit log, only where the copy stands at the caller's commit.
-- KEYS: meta, wakes, failures, written.
-- ARGV: fence, applied, until, most bytes, most borrowers, prefix of a borrower's key, bound behind which failures are read
--       ('' = none), most failures.
-- Returns names, states (false: missing), moments, how many wait for a later call, how many have a state, failures.
local held = redis.call('HMGET', KEYS[1], 'fence', 'applied', 'pending')
local fence, applied, pending = held[1], held[2] or '', held[3]
if fence and tonumber(fence) > tonumber(ARGV[1]) then return {'FENCED', fence} end
if fence ~= ARGV[1] or applied ~= ARGV[2] or pending then return {'STALE', applied} end

local names, states, moments, bytes = {}, {}, {}, 0
for i, name in ipairs(redis.call('ZRANGE', KEYS[4], '-inf', ARGV[3], 'BYSCORE', 'LIMIT', 0, ARGV[5])) do
  if bytes >= tonumber(ARGV[4]) then break end
  local state = redis.call('GET', ARGV[6] .. name)
  names[i], states[i], moments[i] = name, state, redis.call('ZSCORE', KEYS[2], name)
  bytes = bytes + (state and #state or 0)
end
local left = redis.call('ZCOUNT', KEYS[4], '-inf', ARGV[3]) - #names
local failures = {}
if ARGV[7] ~= '' then failures = redis.call('ZRANGEBYLEX', KEYS[3], ARGV[7], '+', 'LIMIT', 0, ARGV[8]) end
return {'OK', names, states, moments, left, redis.call('ZCARD', KEYS[4]), failures}
