-- Remove facts from the beginning of one partition on purpose, as far as its readers allow.
--
-- KEYS  log, head, nobody, the cursors of its readers, its groups
-- ARGV  epoch, number of cursors among the keys, n of the first fact to keep,
--       'all' (nothing unless everything before that fact may go) or 'most' (what may go),
--       facts that this call removes at most; 0: none, it only says what would be
-- Reply {'OK', trimmed, first, holder, instance, position}
--         trimmed is the n up to which facts are gone, first that of the first one that is to be
--         kept: call again until they meet. The holder, empty if nothing that was asked for is
--         still to be read, is the key of the reader or group that needs most; the instance is a
--         reader's, or empty if it has none; the position is where it stands
--       {'HELD', trimmed, first, holder, instance, position}  mode 'all'; nothing removed
--       {'GAP', entries, facts}   the log has other entries than the head counts; nothing removed
--       {'EPOCH', present epoch}  the log was replaced; nothing removed

if redis.replicate_commands then redis.replicate_commands() end

-- Nobody is a key that is not there: so a cluster refuses the call while the slot is on its way to
-- another node, and whoever looked for the readers on one node has seen them all.
local log, head = KEYS[1], KEYS[2]
local epoch, cursors, mode = ARGV[1], tonumber(ARGV[2]), ARGV[4]
local first, most = tonumber(ARGV[3]), tonumber(ARGV[5])

-- A large number in plain digits, which tostring would not give.
local function whole(number) return string.format('%.0f', number) end

local present = redis.call('HMGET', head, 'epoch', 'n', 'trimmed')
if present[1] ~= epoch then return {'EPOCH', present[1] or ''} end
local n, trimmed = tonumber(present[2]), tonumber(present[3] or '0')
local entries = redis.call('XLEN', log)
if entries ~= n - trimmed then return {'GAP', whole(entries), whole(n - trimmed)} end

-- The n that a position stands for. One whose fact should be there and is not is of another log,
-- or of one that was rolled back: whoever has it may read all again.
local known = {}
local function number(position)
  local text = string.match(position, '^%d+%-(%d+)$')
  local value = tonumber(text or '0')
  if value <= trimmed then return value end
  if known[position] == nil then
    known[position] = #redis.call('XRANGE', log, position, position) > 0
  end
  return known[position] and value or 0
end

local smallest, holder, instance, where = n + 1, '', '', ''
local function needs(value, key, who, position)
  if value < smallest then smallest, holder, instance, where = value, key, who, position end
end

for i = 4, 3 + cursors do
  local found, anybody = redis.call('HGETALL', KEYS[i]), false
  for at = 1, #found, 2 do
    if found[at] ~= '_' then
      local position = string.match(found[at + 1], '^%S*')
      needs(number(position), KEYS[i], found[at], position)
      anybody = true
    end
  end
  -- A reader that was registered, or left nothing behind: it begins with the first fact.
  if #found > 0 and not anybody then needs(0, KEYS[i], '', '0-0') end
end
for i = 4 + cursors, #KEYS do
  local group = redis.call('HMGET', KEYS[i], 'position', 'epoch')
  if group[1] then
    needs(group[2] == epoch and number(group[1]) or 0, KEYS[i], '', group[1])
  end
end

-- The fact at the smallest position stays, though it was read: whoever has that position compares
-- it with the log before it reads on. It alone is no reason to refuse.
first = math.min(first, n + 1)
local allowed = math.max(math.min(first, smallest), trimmed + 1)
if first <= math.max(smallest, trimmed) + 1 then
  holder, instance, where = '', '', ''
elseif mode == 'all' then
  return {'HELD', whole(trimmed), whole(allowed), holder, instance, where}
end

-- Removed before anything is written: so it goes on when memory is full.
local less = math.min(allowed - 1 - trimmed, most)
if less > 0 then
  trimmed = trimmed + redis.call('XTRIM', log, 'MAXLEN', whole(entries - less))
  redis.call('HSET', head, 'trimmed', whole(trimmed))
end
return {'OK', whole(trimmed), whole(allowed), holder, instance, where}
