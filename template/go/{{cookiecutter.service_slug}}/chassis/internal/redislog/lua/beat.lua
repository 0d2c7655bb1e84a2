-- The owner of a partition is alive, and hears what it is asked to do.
--
-- KEYS  group, redrive
-- ARGV  token
-- Reply {'OK', sequence, request, …}  in no particular order
--       {'FENCED', owner}             somebody else owns the partition

local state = redis.call('HMGET', KEYS[1], 'token', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[2] or ''} end
redis.call('HINCRBY', KEYS[1], 'beat', 1)

local reply, asked = {'OK'}, redis.call('HGETALL', KEYS[2])
for i = 1, #asked, 2 do
  if asked[i] ~= '_' and asked[i] ~= 'last' then
    reply[#reply + 1] = asked[i]
    reply[#reply + 1] = asked[i + 1]
  end
end
return reply
