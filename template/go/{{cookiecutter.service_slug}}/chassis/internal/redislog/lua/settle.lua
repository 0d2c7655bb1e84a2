-- Write down what became of a contiguous range of facts, before any of it is carried out.
--
-- KEYS  group, outbox
-- ARGV  token, first n, last n; then per fact that has an outcome to keep: n, outcome
-- Reply {'OK'}
--       {'FENCED', owner}  somebody else owns the partition
--       {'GAP', settled n} the range does not join what is settled; nothing stored

local group, outbox = KEYS[1], KEYS[2]
local first, last = tonumber(ARGV[2]), tonumber(ARGV[3])

local state = redis.call('HMGET', group, 'token', 'settled', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[3] or ''} end
-- A fact up to there is never settled again: its outcome is its outbox entry, or nothing.
if first ~= tonumber(state[2]) + 1 then return {'GAP', state[2]} end

-- Not all at once: Lua's stack has room for 8,000 arguments.
for i = 4, #ARGV, 1000 do
  redis.call('HSET', outbox, unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('HSET', group, 'settled', string.format('%.0f', last))
return {'OK'}
