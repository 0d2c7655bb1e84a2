-- Take ownership of one partition of a reaction's input; makes the group if it is new.
--
-- KEYS  head, group, outbox, dead, dead-keys, redrive, and the log if the stream is the service's own
-- ARGV  group name, epoch, owner, nonce, token and beat that the owner before was last seen with;
--       an empty token: only what nobody else owns
-- Reply {'OK', token, position, settled n, id of the fact at the position,
--         {n, outcome, …} settled and not committed, {key, 'n,n,…', …} held back}
--       {'HELD', owner}           it is not as it was seen
--       {'EPOCH', present epoch}  the log, or the group, is of another epoch; nothing changed

if redis.replicate_commands then redis.replicate_commands() end

local head, group, outbox, dead, dead_keys, redrive, log =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local name, epoch, owner, nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local seen_token, seen_beat = ARGV[5], ARGV[6]

local present = redis.call('HGET', head, 'epoch')
if present ~= epoch then return {'EPOCH', present or ''} end

if redis.call('HSETNX', group, 'position', '0-0') == 1 then
  redis.call('HSET', group, '_', '1', 'epoch', epoch, 'fact', '', 'settled', '0',
    'owner', '', 'token', '0:', 'beat', '0')
  for _, key in ipairs({outbox, dead, dead_keys, redrive}) do redis.call('HSET', key, '_', '1') end
  -- Redis' own tools then show the group; nobody reads it back.
  if log then redis.pcall('XGROUP', 'CREATE', log, name, '0') end
end

local state = redis.call('HMGET', group, 'token', 'beat', 'owner', 'position', 'settled', 'fact',
  'epoch')
if state[7] ~= epoch then return {'EPOCH', state[7] or ''} end
if seen_token == '' then
  if state[3] ~= '' and state[3] ~= owner then return {'HELD', state[3]} end
elseif state[1] ~= seen_token or state[2] ~= seen_beat then
  return {'HELD', state[3]}
end

local token = string.format('%.0f', tonumber(string.match(state[1], '^%d+')) + 1) .. ':' .. nonce
redis.call('HSET', group, 'owner', owner, 'token', token, 'beat', '0')

local function fields(key)
  local found, kept = redis.call('HGETALL', key), {}
  for i = 1, #found, 2 do
    if found[i] ~= '_' then
      kept[#kept + 1] = found[i]
      kept[#kept + 1] = found[i + 1]
    end
  end
  return kept
end
return {'OK', token, state[4], state[5], state[6], fields(outbox), fields(dead_keys)}
