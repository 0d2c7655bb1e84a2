-- Ask the owner of a partition to have dead letters tried again, or to discard them.
--
-- KEYS  redrive
-- ARGV  per request: 'redrive:<n>' or 'discard:<n>'
-- Reply {'OK', sequence of the last request}
--       {'NONE'}  there is no such group

if redis.call('EXISTS', KEYS[1]) == 0 then return {'NONE'} end
local sequence
for i = 1, #ARGV do
  sequence = redis.call('HINCRBY', KEYS[1], 'last', 1)
  redis.call('HSET', KEYS[1], string.format('%.0f', sequence), ARGV[i])
end
return {'OK', sequence}
