-- Give a partition up, so that another member need not wait until its owner is silent.
--
-- KEYS  group
-- ARGV  token
-- Reply {'OK'}
--       {'FENCED', owner}  somebody else owns the partition

local state = redis.call('HMGET', KEYS[1], 'token', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[2] or ''} end
-- Without its nonce the token fits nobody: what this owner may still have under way is fenced.
redis.call('HSET', KEYS[1], 'owner', '', 'token', string.match(state[1], '^%d+') .. ':')
return {'OK'}
