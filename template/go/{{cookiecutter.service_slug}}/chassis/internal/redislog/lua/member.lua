-- A member of a group is alive, and hears who else is.
--
-- KEYS  members
-- ARGV  member
-- Reply {member, beat, …}  all of them, in no particular order

redis.call('HSETNX', KEYS[1], '_', '1')
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)

local reply, members = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #members, 2 do
  if members[i] ~= '_' then
    reply[#reply + 1] = members[i]
    reply[#reply + 1] = members[i + 1]
  end
end
return reply
