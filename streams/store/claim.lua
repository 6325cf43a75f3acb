#!lua
-- Raises the fence of a task.
-- KEYS: meta. ARGV: fence, incarnation, schema, oldest schema that is taken over.
local held = redis.call('HMGET', KEYS[1], 'fence', 'incarnation', 'schema')
if held[2] and held[2] ~= ARGV[2] then return {'FOREIGN', 'another commit log'} end
local schema = tonumber(held[3] or ARGV[3])
if schema < tonumber(ARGV[4]) or schema > tonumber(ARGV[3]) then return {'FOREIGN', 'layout ' .. held[3]} end
if held[1] and tonumber(held[1]) > tonumber(ARGV[1]) then return {'FENCED', held[1]} end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'incarnation', ARGV[2], 'schema', ARGV[3])
return {'OK'}
