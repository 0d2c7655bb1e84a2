-- Append units of facts to one partition, once.
--
-- KEYS  log, head, producers, versions
-- ARGV  epoch, producer, mode, sequence, predecessor, number of units;
--       per unit: sequence, number of facts;
--       per fact of the unit: key, expected version or '', type, meta, data
--
-- mode 'batch': the producer is a process; a sequence stands for the whole batch.
-- mode 'units': the producer is a reaction; each unit's sequence is the n of its input fact, and
--               they rise. The call's own sequence is not used.
--
-- Reply {'OK', ms, n of the first fact, facts, conflicts, error, units skipped}
--         of what is in the log now: facts that follow each other, skipped units left out
--         conflicts is 'index:actual version' of each dropped unit, comma-separated
--         error, if not empty, is why the facts end early, in the middle of a unit or behind one:
--         in mode 'batch' that stays so, in mode 'units' the same units go on from there
--       {'EPOCH', present epoch}  the log was replaced; nothing stored
--       {'GAP', last sequence}    the predecessor is missing; nothing stored
--       {'OOM' | 'FOREIGN' | 'ERROR', text}  the first XADD failed; nothing stored
--       or an error: the arguments are malformed; nothing stored

-- Redis 6.2 may run without effects replication, and TIME is not deterministic.
if redis.replicate_commands then redis.replicate_commands() end

local IDLE_MS = 7 * 24 * 3600 * 1000
local KEPT_BATCHES = 5
local KEPT_CONFLICTS = 256

local log, head, producers, versions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, producer, mode = ARGV[1], ARGV[2], ARGV[3]

-- A large number in plain digits, which tostring would not give.
local function whole(number) return string.format('%d', number) end

-- tonumber takes '1e3', '0x10' and 'nan' too, and above 2^53 it rounds.
local malformed
local read = {}
local function number(text, what, of)
  local value = read[text or '']
  if value then return value end
  value = string.match(text or '', '^%d+$') and tonumber(text)
  if value and value < 2 ^ 53 then
    read[text] = value
    return value
  end
  local found = text and "'" .. text .. "'" or 'absent'
  malformed = malformed or what .. (of and ' ' .. of or '') .. ' is ' .. found
  return 0
end

-- Everything up to the first XADD only reads: an error there leaves nothing behind.

local sequence, predecessor = number(ARGV[4], 'sequence'), number(ARGV[5], 'predecessor')
if mode ~= 'batch' and mode ~= 'units' then malformed = 'there is no such mode' end

local units, at, before = {}, 7, 0
for i = 1, number(ARGV[6], 'number of units') do
  local own = number(ARGV[at], 'sequence of unit', i)
  local facts = number(ARGV[at + 1], 'number of facts of unit', i)
  if mode == 'units' and own <= before then malformed = malformed or 'sequences do not rise' end
  if malformed then break end
  units[i] = {sequence = own, first = at + 2, from = at + 2, last = at + 2 + 5 * (facts - 1)}
  at, before = at + 2 + 5 * facts, own
end
if at ~= #ARGV + 1 then
  malformed = malformed or #ARGV .. ' arguments, ' .. whole(at - 1) .. ' expected'
end
if malformed then return redis.error_reply('ERR append: ' .. malformed) end

local present = redis.call('HMGET', head, 'epoch', 'n', 'ms')
if present[1] ~= epoch then return {'EPOCH', present[1] or ''} end
local n, last_ms = tonumber(present[2]), tonumber(present[3])

local stored = redis.call('HGET', producers, producer)
local last = 0
local refused, actual_of, cut, cut_facts = {}, {}, 0, 0  -- mode 'units'
if mode == 'batch' then
  last = tonumber(string.match(stored or '', '.*|(%d+);') or '0')
  if sequence <= last then
    for batch in string.gmatch(stored or '', '|([^|]+)') do
      local known, ms, first, applied, dropped, failure =
        string.match(batch, '^(%d+);(%d+);(%d+);(%d+);([^;]*);(.*)$')
      if tonumber(known) == sequence then
        return {'OK', ms, first, tonumber(applied), dropped, failure, 0}
      end
    end
    return {'GAP', whole(last)}
  end
  if predecessor ~= last then return {'GAP', whole(last)} end
elseif stored then
  local done, refusals, rest = string.match(stored, '^%d+|(%d+)|([^|]*)|?(.*)$')
  last = tonumber(done)
  for known, actual in string.gmatch(refusals, '(%d+):(%d+)') do
    refused[#refused + 1] = known .. ':' .. actual
    actual_of[tonumber(known)] = actual
  end
  if rest ~= '' then
    local unit, facts = string.match(rest, '^(%d+):(%d+)$')
    cut, cut_facts = tonumber(unit), tonumber(facts)
  end
end
if mode == 'units' and predecessor > last then return {'GAP', whole(last)} end

-- Of many keys at once: a call costs more than what it does. unpack takes less than 8,000.
local AT_ONCE = 1000
local next_version, versioned = {}, {}
for _, unit in ipairs(units) do
  for arg = unit.first, unit.last, 5 do
    if ARGV[arg + 1] ~= '' then
      versioned[#versioned + 1] = ARGV[arg]
      unit.versioned = true
    end
  end
end
for from = 1, #versioned, AT_ONCE do
  local to = math.min(from + AT_ONCE - 1, #versioned)
  local present_versions = redis.call('HMGET', versions, unpack(versioned, from, to))
  for i = from, to do next_version[versioned[i]] = tonumber(present_versions[i - from + 1] or '0') end
end

-- A unit is refused whole; the units before it count as applied.
local function conflict_of(unit)
  local bumped
  for arg = unit.first, unit.last, 5 do
    local key, expected = ARGV[arg], ARGV[arg + 1]
    if expected ~= '' then
      bumped = bumped or {}
      local actual = bumped[key] or next_version[key]
      if actual ~= number(expected, 'expected version') then return whole(actual) end
      bumped[key] = actual + 1
    end
  end
  for key, version in pairs(bumped or {}) do next_version[key] = version end
end

local first, skipped = n + 1, 0
for _, unit in ipairs(units) do
  if mode == 'units' and unit.sequence <= last then
    unit.skipped, unit.actual = true, actual_of[unit.sequence]
    skipped = skipped + 1
  elseif mode == 'units' and unit.sequence == cut then
    -- Its versions have been compared, and taken for all its facts.
    unit.from, first = unit.first + 5 * cut_facts, first - cut_facts
  elseif unit.versioned then
    unit.actual = conflict_of(unit)
  end
end
if malformed then return redis.error_reply('ERR append: ' .. malformed) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ms = math.max(now, last_ms)

local conflicts, version_of = {}, {}
local function take_version(arg) version_of[ARGV[arg]] = tonumber(ARGV[arg + 1]) + 1 end

local applied, failure = 0, ''
-- A unit that was cut stays known until it comes again: the call may be of earlier ones alone.
local rest = cut > 0 and whole(cut) .. ':' .. whole(cut_facts) or ''
local id = whole(ms) .. '-%d'
for i, unit in ipairs(units) do
  if unit.actual then
    conflicts[#conflicts + 1] = (i - 1) .. ':' .. unit.actual
    if not unit.skipped then refused[#refused + 1] = whole(unit.sequence) .. ':' .. unit.actual end
  elseif not unit.skipped then
    local fresh = unit.from == unit.first
    if unit.sequence == cut then rest = '' end
    for arg = unit.from, unit.last, 5 do
      local reply = redis.pcall('XADD', log, string.format(id, n + 1),
        'type', ARGV[arg + 2], 'key', ARGV[arg], 'meta', ARGV[arg + 3], 'data', ARGV[arg + 4])
      if type(reply) == 'table' and reply.err then
        failure = string.gsub(reply.err, '[|;%c]', ' ')
        if mode == 'units' and arg > unit.first then
          rest = whole(unit.sequence) .. ':' .. (arg - unit.first) / 5
          -- Nobody else gets a version that facts of this unit will have.
          for other = arg, fresh and unit.last or 0, 5 do
            if ARGV[other + 1] ~= '' then take_version(other) end
          end
        end
        break
      end
      n, applied = n + 1, applied + 1
      if fresh and ARGV[arg + 1] ~= '' then take_version(arg) end
    end
    if failure ~= '' then break end
  end
  if unit.sequence > last then last = unit.sequence end
end

local function nothing_stored()
  local code = 'ERROR'
  -- 6.2 wraps the error's code in text, 7 does not.
  if string.find(failure, 'OOM', 1, true) then code = 'OOM' end
  if string.find(failure, 'equal or smaller', 1, true) then code = 'FOREIGN' end
  return {code, failure}
end

if failure ~= '' and applied == 0 then return nothing_stored() end

local pairs_of = {}
for key, version in pairs(version_of) do
  pairs_of[#pairs_of + 1] = key
  pairs_of[#pairs_of + 1] = whole(version)
end
for from = 1, #pairs_of, 2 * AT_ONCE do
  redis.call('HSET', versions, unpack(pairs_of, from, math.min(from + 2 * AT_ONCE - 1, #pairs_of)))
end
if applied > 0 then redis.call('HSET', head, 'n', whole(n), 'ms', whole(ms)) end

local ms_text, first_text, facts = whole(ms), whole(first), n - first + 1
local dropped = table.concat(conflicts, ',')
local outcome
if mode == 'batch' then
  -- They are numbered without a gap: the first one goes once there are as many as are kept.
  local pattern = sequence > KEPT_BATCHES and '^%d+|[^|]*(|.*)$' or '^%d+(.*)$'
  local before = stored and string.match(stored, pattern) or ''
  local this = {whole(sequence), ms_text, first_text, facts, dropped, failure}
  outcome = whole(now) .. before .. '|' .. table.concat(this, ';')
else
  while #refused > KEPT_CONFLICTS do table.remove(refused, 1) end
  outcome = table.concat({whole(now), whole(last), table.concat(refused, ','), rest}, '|')
end
local kept = redis.pcall('HSET', producers, producer, outcome)
-- Memory is checked before a script's first write, which this is if all units were dropped.
if type(kept) == 'table' and kept.err then
  failure = kept.err
  return nothing_stored()
end

-- Processes and dead letters come and go. A reaction's producer, G/S/p/epoch, is kept for ever.
local some = redis.call('HRANDFIELD', producers, 2, 'WITHVALUES')
for i = 1, #some, 2 do
  local seen = tonumber(string.match(some[i + 1], '^%d+') or now)
  if some[i] ~= '_' and now - seen > IDLE_MS then
    local _, slashes = string.gsub(some[i], '/', '')
    if slashes ~= 3 then redis.call('HDEL', producers, some[i]) end
  end
end

return {'OK', ms_text, first_text, facts, dropped, failure, skipped}
