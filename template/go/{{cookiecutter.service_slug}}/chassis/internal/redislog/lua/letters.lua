-- Change or drop dead letters; a key without any is released.
--
-- KEYS  group, dead, dead-keys, redrive
-- ARGV  token, number of letters; per letter: n, key, letter, or '' to drop it;
--       then the sequence of each request that is carried out
-- Reply {'OK'}
--       {'FENCED', owner}  somebody else owns the partition

local group, dead, dead_keys, redrive = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local state = redis.call('HMGET', group, 'token', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[2] or ''} end

local at = 3
for _ = 1, tonumber(ARGV[2]) do
  local n, key, letter = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if letter ~= '' then
    redis.call('HSET', dead, n, letter)
  else
    redis.call('HDEL', dead, n)
    local rest = {}
    for other in string.gmatch(redis.call('HGET', dead_keys, key) or '', '%d+') do
      if other ~= n then rest[#rest + 1] = other end
    end
    if #rest > 0 then
      redis.call('HSET', dead_keys, key, table.concat(rest, ','))
    else
      redis.call('HDEL', dead_keys, key)
    end
  end
  at = at + 3
end
for i = at, #ARGV do redis.call('HDEL', redrive, ARGV[i]) end
return {'OK'}
