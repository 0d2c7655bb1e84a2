-- Move a reaction's position past facts whose outputs are in the log, and put aside those that
-- it could not answer.
--
-- KEYS  group, outbox, dead, dead-keys, and the log if the stream is the service's own
-- ARGV  token, position before, position after, id of the fact there, group name,
--       number of dead letters; per letter, in the order of n: n, key, letter;
--       then the n of each outbox entry that is done
-- Reply {'OK'}
--       {'FENCED', owner}     somebody else owns the partition
--       {'MOVED', position}   the position is not the one given

local group, outbox, dead, dead_keys, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local state = redis.call('HMGET', group, 'token', 'position', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[3] or ''} end
if state[2] ~= ARGV[2] then return {'MOVED', state[2]} end

local at = 7
for _ = 1, tonumber(ARGV[6]) do
  local n, key, letter = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local before = redis.call('HGET', dead_keys, key)
  redis.call('HSET', dead, n, letter)
  redis.call('HSET', dead_keys, key, before and before .. ',' .. n or n)
  at = at + 3
end
redis.call('HSET', group, 'position', ARGV[3], 'fact', ARGV[4])
-- Not all at once: Lua's stack has room for 8,000 arguments.
for i = at, #ARGV, 1000 do
  redis.call('HDEL', outbox, unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
if log then
  -- From 7.0 on, where this table knows its server's version, a group's lag needs to be told of n.
  if redis.REDIS_VERSION_NUM then
    redis.pcall('XGROUP', 'SETID', log, ARGV[5], ARGV[3], 'ENTRIESREAD',
      string.match(ARGV[3], '%d+$'))
  else
    redis.pcall('XGROUP', 'SETID', log, ARGV[5], ARGV[3])
  end
end
return {'OK'}
