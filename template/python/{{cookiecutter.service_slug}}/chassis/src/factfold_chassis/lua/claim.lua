-- Take ownership of one partition of a reaction's input; makes the group if it is new.
--
-- KEYS  group, outbox, and the log if the stream is the service's own
-- ARGV  group name, owner, nonce
-- Reply {token, position, settled n, id of the fact at the position}

if redis.replicate_commands then redis.replicate_commands() end

local group, outbox, log = KEYS[1], KEYS[2], KEYS[3]
local name, owner, nonce = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HSETNX', group, 'position', '0-0') == 1 then
  redis.call('HSET', group, '_', '1', 'settled', '0', 'token', '0:', 'fact', '')
  redis.call('HSET', outbox, '_', '1')
  -- Redis' own tools then show the group; nobody reads it back.
  if log then redis.pcall('XGROUP', 'CREATE', log, name, '0') end
end

local counter = tonumber(string.match(redis.call('HGET', group, 'token'), '^%d+'))
local token = string.format('%.0f', counter + 1) .. ':' .. nonce
redis.call('HSET', group, 'owner', owner, 'token', token)
local state = redis.call('HMGET', group, 'position', 'settled', 'fact')
return {token, state[1], state[2], state[3] or ''}
