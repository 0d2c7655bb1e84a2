-- Move a reaction's position past facts whose outputs are in the log.
--
-- KEYS  group, outbox, and the log if the stream is the service's own
-- ARGV  token, position before, position after, id of the fact there, group name; then the n of
--       each outbox entry that is done
-- Reply {'OK'}
--       {'FENCED', owner}     somebody else owns the partition
--       {'MOVED', position}   the position is not the one given

if redis.replicate_commands then redis.replicate_commands() end

local group, outbox, log = KEYS[1], KEYS[2], KEYS[3]

local state = redis.call('HMGET', group, 'token', 'position', 'owner')
if state[1] ~= ARGV[1] then return {'FENCED', state[3] or ''} end
if state[2] ~= ARGV[2] then return {'MOVED', state[2]} end

redis.call('HSET', group, 'position', ARGV[3], 'fact', ARGV[4])
for i = 6, #ARGV do redis.call('HDEL', outbox, ARGV[i]) end
if log then redis.pcall('XGROUP', 'SETID', log, ARGV[5], ARGV[3]) end
return {'OK'}
