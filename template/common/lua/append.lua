-- Append units of facts to one partition, once.
--
-- KEYS  log, head, producers, versions
-- ARGV  epoch, producer, mode, sequence, predecessor, number of units;
--       per unit: sequence, number of facts;
--       per fact of the unit: key, expected version or '', type, meta, data
--
-- mode 'batch': the producer is a process; a sequence stands for the whole batch.
-- mode 'units': the producer is a reaction; each unit's sequence is the n of its input fact.
--
-- Reply {'OK', ms, n of the first new fact, facts applied, conflicts, error, units skipped}
--         conflicts is 'index:actual version' of each dropped unit, comma-separated
--       {'EPOCH', present epoch}  the log was replaced; nothing stored
--       {'GAP', last sequence}    the predecessor is missing; nothing stored
--       {'OOM' | 'FOREIGN' | 'ERROR', text}  the first XADD failed; nothing stored

-- Redis 6.2 may run without effects replication, and TIME is not deterministic.
if redis.replicate_commands then redis.replicate_commands() end

local IDLE_MS = 7 * 24 * 3600 * 1000
local KEPT_BATCHES = 5
local KEPT_CONFLICTS = 256

local log, head, producers, versions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, producer, mode = ARGV[1], ARGV[2], ARGV[3]
local sequence, predecessor = tonumber(ARGV[4]), tonumber(ARGV[5])

local function whole(number) return string.format('%.0f', number) end

-- Everything up to the first XADD only reads: an error there leaves nothing behind.

local units, at = {}, 7
for i = 1, tonumber(ARGV[6]) do
  local facts = tonumber(ARGV[at + 1])
  if not facts then return redis.error_reply('ERR append: the arguments end within unit ' .. i) end
  units[i] = {sequence = tonumber(ARGV[at]), first = at + 2, last = at + 2 + 5 * (facts - 1)}
  at = at + 2 + 5 * facts
end
if at ~= #ARGV + 1 then
  return redis.error_reply('ERR append: ' .. #ARGV .. ' arguments, ' .. (at - 1) .. ' expected')
end

local present = redis.call('HMGET', head, 'epoch', 'n', 'ms')
if present[1] ~= epoch then return {'EPOCH', present[1] or ''} end
local n, last_ms = tonumber(present[2]), tonumber(present[3])

local record = {}
local stored = redis.call('HGET', producers, producer)
if stored then
  for field in string.gmatch(stored, '[^|]+') do record[#record + 1] = field end
end

local last, skipped, conflicts = 0, 0, {}
local refused = {}
if mode == 'batch' then
  if #record > 1 then last = tonumber(string.match(record[#record], '^%d+')) end
  if sequence <= last then
    for i = 2, #record do
      local known, ms, first, applied, dropped, failure =
        string.match(record[i], '^(%d+);(%d+);(%d+);(%d+);([^;]*);(.*)$')
      if tonumber(known) == sequence then
        return {'OK', ms, first, tonumber(applied), dropped, failure, 0}
      end
    end
    return {'GAP', whole(last)}
  end
  if predecessor ~= last then return {'GAP', whole(last)} end
else
  last = tonumber(record[2] or '0')
  if predecessor > last then return {'GAP', whole(last)} end
  for refusal in string.gmatch(record[3] or '', '[^,]+') do
    refused[#refused + 1] = refusal
  end
end

-- A unit is refused whole; the units before it count as applied.
local next_version = {}
local function conflict_of(unit)
  local bumped = {}
  for arg = unit.first, unit.last, 5 do
    local key, expected = ARGV[arg], ARGV[arg + 1]
    if expected ~= '' then
      local actual = bumped[key] or next_version[key]
        or tonumber(redis.call('HGET', versions, key) or '0')
      if actual ~= tonumber(expected) then return whole(actual) end
      bumped[key] = actual + 1
    end
  end
  for key, version in pairs(bumped) do next_version[key] = version end
end

for i, unit in ipairs(units) do
  if mode == 'units' and unit.sequence <= last then
    unit.dropped = true
    skipped = skipped + 1
    for _, refusal in ipairs(refused) do
      local known, actual = string.match(refusal, '^(%d+):(%d+)$')
      if tonumber(known) == unit.sequence then conflicts[#conflicts + 1] = (i - 1) .. ':' .. actual end
    end
  else
    local actual = conflict_of(unit)
    if actual then
      unit.dropped = true
      conflicts[#conflicts + 1] = (i - 1) .. ':' .. actual
      refused[#refused + 1] = whole(unit.sequence) .. ':' .. actual
    end
  end
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ms = math.max(now, last_ms)
local first, applied, failure = n + 1, 0, ''

local version_of = {}
for _, unit in ipairs(units) do
  for arg = unit.first, unit.dropped and 0 or unit.last, 5 do
    local reply = redis.pcall('XADD', log, whole(ms) .. '-' .. whole(n + 1),
      'type', ARGV[arg + 2], 'key', ARGV[arg], 'meta', ARGV[arg + 3], 'data', ARGV[arg + 4])
    if type(reply) == 'table' and reply.err then
      failure = string.gsub(reply.err, '[|;%c]', ' ')
      break
    end
    n, applied = n + 1, applied + 1
    if ARGV[arg + 1] ~= '' then version_of[ARGV[arg]] = tonumber(ARGV[arg + 1]) + 1 end
  end
  if failure ~= '' then break end
end

local function nothing_stored()
  local code = 'ERROR'
  -- 6.2 wraps the error's code in text, 7 does not.
  if string.find(failure, 'OOM', 1, true) then code = 'OOM' end
  if string.find(failure, 'equal or smaller', 1, true) then code = 'FOREIGN' end
  return {code, failure}
end

if failure ~= '' and applied == 0 then return nothing_stored() end

for key, version in pairs(version_of) do redis.call('HSET', versions, key, whole(version)) end
if applied > 0 then redis.call('HSET', head, 'n', whole(n), 'ms', whole(ms)) end

local outcome
if mode == 'batch' then
  outcome = {whole(now)}
  for i = math.max(2, #record - KEPT_BATCHES + 2), #record do outcome[#outcome + 1] = record[i] end
  outcome[#outcome + 1] = table.concat(
    {whole(sequence), whole(ms), whole(first), applied, table.concat(conflicts, ','), failure}, ';')
else
  while #refused > KEPT_CONFLICTS do table.remove(refused, 1) end
  local newest = units[#units] and units[#units].sequence or last
  outcome = {whole(now), whole(math.max(last, newest)), table.concat(refused, ',')}
end
local kept = redis.pcall('HSET', producers, producer, table.concat(outcome, '|'))
-- Memory is checked before a script's first write, which this is if all units were dropped.
if type(kept) == 'table' and kept.err then
  failure = kept.err
  return nothing_stored()
end

-- Processes come and go; a reaction's producer is kept for ever, its id has a '/'.
local some = redis.call('HRANDFIELD', producers, 2, 'WITHVALUES')
for i = 1, #some, 2 do
  local seen = tonumber(string.match(some[i + 1], '^%d+'))
  if some[i] ~= '_' and not string.find(some[i], '/', 1, true) and now - seen > IDLE_MS then
    redis.call('HDEL', producers, some[i])
  end
end

return {'OK', whole(ms), whole(first), applied, table.concat(conflicts, ','), failure, skipped}
