#!lua flags=allow-oom
-- Forgets where the copy stands and the given keys; called again with more keys until none is left.
-- KEYS: meta, then keys to delete. ARGV: fence.
-- Each batch is fenced: a later owner may be copying the task anew already. It frees memory, so a full Redis runs it too.
local fence = redis.call('HGET', KEYS[1], 'fence')
if fence and tonumber(fence) > tonumber(ARGV[1]) then return {'FENCED', fence} end
if fence ~= ARGV[1] then return {'STALE', redis.call('HGET', KEYS[1], 'applied') or ''} end
redis.call('HDEL', KEYS[1], 'applied', 'read_from', 'pending', 'task')
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return {'OK'}
