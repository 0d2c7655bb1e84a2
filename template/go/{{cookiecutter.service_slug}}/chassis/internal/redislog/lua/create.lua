-- Create one partition of a stream; the first caller wins.
--
-- KEYS  log, head, producers, versions
-- ARGV  partitions, epoch
-- Reply {'OK', epoch, partitions}          of the partition as it now is
--       {'FOREIGN', text}                  keys without a head: not ours to touch

if redis.replicate_commands then redis.replicate_commands() end

local log, head, producers, versions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local present = redis.call('HMGET', head, 'epoch', 'partitions')
if present[1] then return {'OK', present[1], present[2]} end
-- What an older log left behind would refuse facts of the new one, or pass over them.
for _, key in ipairs({log, producers, versions}) do
  if redis.call('EXISTS', key) == 1 then return {'FOREIGN', key .. ' exists without its head'} end
end

-- The only way to an empty stream: no later script meets an absent key.
redis.call('XGROUP', 'CREATE', log, 'factfold', '0', 'MKSTREAM')
redis.call('XGROUP', 'DESTROY', log, 'factfold')
redis.call('HSET', producers, '_', '1')
redis.call('HSET', versions, '_', '1')
redis.call('HSET', head, '_', '1', 'format', '1', 'partitions', ARGV[1], 'epoch', ARGV[2],
  'n', '0', 'ms', '0', 'trimmed', '0')
return {'OK', ARGV[2], ARGV[1]}
