-- The owner of a partition is alive.
--
-- KEYS  group
-- ARGV  token
-- Reply {'OK'} or {'FENCED', owner}

local state = redis.call('HMGET', KEYS[1], 'token', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[2] or ''} end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
return {'OK'}
