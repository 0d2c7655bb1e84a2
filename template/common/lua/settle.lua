-- Write down what a reaction decided for a contiguous range of facts; the first writer wins.
--
-- KEYS  group, outbox
-- ARGV  token, first n, last n; then per fact that has outputs: n, outcome
-- Reply {'OK', n, outcome, …}  every settled outcome that is not committed yet
--       {'FENCED', owner}      somebody else owns the partition
--       {'GAP', settled n}     the range does not join what is settled

if redis.replicate_commands then redis.replicate_commands() end

local group, outbox = KEYS[1], KEYS[2]
local first, last = tonumber(ARGV[2]), tonumber(ARGV[3])

local state = redis.call('HMGET', group, 'token', 'settled', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[3] or ''} end
local settled = tonumber(state[2])
if first > settled + 1 then return {'GAP', state[2]} end

for i = 4, #ARGV, 2 do
  if tonumber(ARGV[i]) > settled then redis.call('HSETNX', outbox, ARGV[i], ARGV[i + 1]) end
end
if last > settled then redis.call('HSET', group, 'settled', string.format('%.0f', last)) end

local reply = {'OK'}
local outcomes = redis.call('HGETALL', outbox)
for i = 1, #outcomes, 2 do
  if outcomes[i] ~= '_' then
    reply[#reply + 1] = outcomes[i]
    reply[#reply + 1] = outcomes[i + 1]
  end
end
return reply
