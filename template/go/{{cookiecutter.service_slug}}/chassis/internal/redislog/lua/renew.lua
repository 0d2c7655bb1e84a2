-- Let a reaction's outputs be appended under another producer, from some input on.
--
-- KEYS  group
-- ARGV  token, producers: n:name,n:name,…  the name is for the inputs behind that n, ascending
-- Reply {'OK'}
--       {'FENCED', owner}  somebody else owns the partition

local state = redis.call('HMGET', KEYS[1], 'token', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[2] or ''} end
redis.call('HSET', KEYS[1], 'producers', ARGV[2])
return {'OK'}
