#!lua flags=no-writes
-- Reads the borrowers behind a place of the rolling snapshot, only where the copy stands at the caller's commit.
-- KEYS: meta, wakes, failures.
-- ARGV: fence, applied, place ('' = from the start, '-' = no borrowers), most bytes, most borrowers, prefix of a borrower's
--       key, bound behind which failures are read ('' = none), most failures.
-- Returns names, states, moments, the place reached (false: nobody is behind it), how many have a state, failures.
local held = redis.call('HMGET', KEYS[1], 'fence', 'applied', 'pending')
local fence, applied, pending = held[1], held[2] or '', held[3]
if fence and tonumber(fence) > tonumber(ARGV[1]) then return {'FENCED', fence} end
if fence ~= ARGV[1] or applied ~= ARGV[2] or pending then return {'STALE', applied} end

local names, states, moments, bytes, is_lost = {}, {}, {}, 0, false
local function is_enough() return bytes >= tonumber(ARGV[4]) or #names >= tonumber(ARGV[5]) end
local function take(name, moment)
  local n, state = #names + 1, redis.call('GET', ARGV[6] .. name)
  names[n], states[n], moments[n] = name, state, moment ~= 'inf' and moment
  bytes = bytes + (state and #state or 0)
  is_lost = is_lost or not state
end

-- The order must be one that no change of a wake-up moves anybody in: that of ZSCAN. It is by a hash that another process of
-- Redis computes differently, so that a place is good for the process that gave it; in another one all begins anew.
local function pass()
  local process = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. ':'
  local place = string.sub(ARGV[3], 1, #process) == process and string.sub(ARGV[3], #process + 1) or ''
  local cursor = string.match(place, '^scan:(%d+)$') or '0'
  local page = redis.call('ZSCAN', KEYS[2], cursor, 'COUNT', 4)
  if cursor == '0' and page[1] == '0' then
    -- So few are kept in one piece, which ZSCAN gives as a whole: a hash of our own is their order. (Names themselves would
    -- be compared by the rules of the server's language.)
    local hashes, at, behind = {}, {}, string.match(place, '^hash:(%x+)$') or ''
    for i = 1, #page[2], 2 do
      local hash = redis.sha1hex(page[2][i])
      hashes[#hashes + 1], at[hash] = hash, i
    end
    table.sort(hashes)
    for i, hash in ipairs(hashes) do
      if hash > behind then
        take(page[2][at[hash]], page[2][at[hash] + 1])
        if is_enough() then return i < #hashes and process .. 'hash:' .. hash end
      end
    end
    return false
  end
  while true do
    for i = 1, #page[2], 2 do take(page[2][i], page[2][i + 1]) end
    if page[1] == '0' then return false end
    if is_enough() then return process .. 'scan:' .. page[1] end
    page = redis.call('ZSCAN', KEYS[2], page[1], 'COUNT', 4)
  end
end

local reached = ARGV[3] ~= '-' and pass()
if is_lost then return {'LOST'} end
local failures = {}
if ARGV[7] ~= '' then failures = redis.call('ZRANGEBYLEX', KEYS[3], ARGV[7], '+', 'LIMIT', 0, ARGV[8]) end
return {'OK', names, states, moments, reached, redis.call('ZCARD', KEYS[2]), failures}
