-- Take ownership of one partition of a reaction's input; makes the group if it is new.
--
-- KEYS  group, outbox, and the log if the stream is the service's own
-- ARGV  group name, owner, nonce, token and beat that the owner before was last seen with;
--       an empty token: whoever owns it
-- Reply {'OK', token, position, settled n, id of the fact at the position}
--       {'HELD', owner}  it is not as it was seen

if redis.replicate_commands then redis.replicate_commands() end

local group, outbox, log = KEYS[1], KEYS[2], KEYS[3]
local name, owner, nonce = ARGV[1], ARGV[2], ARGV[3]
local seen_token, seen_beat = ARGV[4], ARGV[5]

if redis.call('HSETNX', group, 'position', '0-0') == 1 then
  redis.call('HSET', group, '_', '1', 'settled', '0', 'token', '0:', 'beat', '0', 'fact', '')
  redis.call('HSET', outbox, '_', '1')
  -- Redis' own tools then show the group; nobody reads it back.
  if log then redis.pcall('XGROUP', 'CREATE', log, name, '0') end
end

local state = redis.call('HMGET', group, 'token', 'beat', 'owner', 'position', 'settled', 'fact')
if seen_token ~= '' and (state[1] ~= seen_token or state[2] ~= seen_beat) then
  return {'HELD', state[3] or ''}
end

local token = string.format('%.0f', tonumber(string.match(state[1], '^%d+')) + 1) .. ':' .. nonce
redis.call('HSET', group, 'owner', owner, 'token', token, 'beat', '0')
return {'OK', token, state[4], state[5], state[6]}
