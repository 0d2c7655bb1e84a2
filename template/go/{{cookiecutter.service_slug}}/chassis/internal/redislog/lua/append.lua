-- Append units of facts to one partition, once.
--
-- KEYS  log, head, producers, versions
-- ARGV  epoch, producer, mode, sequence, predecessor, units, versions;
--       per fact: type, key, meta, data
--
-- units     how many facts each has, comma-separated; empty: each fact is a unit
-- versions  what each fact expects, comma-separated, nothing between commas if it expects none;
--           empty: no fact expects one
--
-- mode 'batch': the producer is a process; a sequence stands for the whole batch.
-- mode 'units': the producer is a reaction; each unit is 'sequence:facts', its sequence is the n
--               of its input fact, and they rise. The call's own sequence is the milliseconds of an
--               input that is answered with them, which is kept for whoever claims later; or 0.
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

local call, pcall = redis.call, redis.pcall
local find, format, gmatch, match = string.find, string.format, string.gmatch, string.match

local IDLE_MS = 7 * 24 * 3600 * 1000
local KEPT_BATCHES = 5
local KEPT_CONFLICTS = 256
-- One call in so many looks at so many producers: twice as many as come, since a call makes one.
local LOOK_EVERY, LOOK_AT = 16, 32
local FIRST, FACT = 8, 4  -- argument that the facts begin with; arguments of each

local log, head, producers, versions = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, producer, mode = ARGV[1], ARGV[2], ARGV[3]
local behind = #ARGV + 1

-- A large number in plain digits, which tostring would not give.
local function whole(number) return format('%d', number) end

-- tonumber takes '1e3', '0x10' and 'nan' too, and above 2^53 it rounds.
local malformed
local function number(text, what, of)
  local value = text and find(text, '^%d+$') and tonumber(text)
  if value and value < 2 ^ 53 then return value end
  local found = text and "'" .. text .. "'" or 'absent'
  malformed = malformed or what .. (of and ' ' .. of or '') .. ' is ' .. found
  return 0
end

-- Everything up to the first XADD only reads: an error there leaves nothing behind.

local sequence, predecessor = number(ARGV[4], 'sequence'), number(ARGV[5], 'predecessor')
local sizes, expectations = ARGV[6], ARGV[7] or ''
if mode ~= 'batch' and mode ~= 'units' then malformed = 'there is no such mode' end
local facts = (behind - FIRST) / FACT
if facts < 0 or facts % 1 ~= 0 then
  malformed = malformed or behind - 1 .. ' arguments are not of whole facts'
end
if malformed then return redis.error_reply('ERR append: ' .. malformed) end

-- By argument of a fact: the version that it expects; whether it is not to be appended.
local expected, left_out = {}, {}
-- By number of a unit: the argument that it begins with, and the one behind the last; its sequence.
-- Single facts without versions, which are most, do without.
local begins, own = {FIRST}, {}

local EACH = '([^,]*),'
if expectations ~= '' then
  local at = FIRST
  for version in gmatch(expectations .. ',', EACH) do
    if version ~= '' then expected[at] = number(version, 'expected version') end
    at = at + FACT
  end
  if at ~= behind then
    malformed = malformed or whole((at - FIRST) / FACT) .. ' versions, ' .. facts .. ' facts there'
  end
end
if sizes ~= '' or mode == 'units' then
  local at, before = FIRST, 0
  for size in gmatch(sizes .. ',', EACH) do
    local i = #begins
    if mode == 'units' then
      own[i], size = match(size, '^([^:]*):(.*)$')
      own[i] = number(own[i], 'sequence of unit', i)
      if own[i] <= before then malformed = malformed or 'sequences do not rise' end
      before = own[i]
    end
    at = at + FACT * number(size, 'number of facts of unit', i)
    begins[i + 1] = at
  end
  if at ~= behind then
    local counted = whole((at - FIRST) / FACT)
    malformed = malformed or 'units of ' .. counted .. ' facts, ' .. facts .. ' there'
  end
elseif expectations ~= '' then
  for i = 1, facts do begins[i + 1] = FIRST + FACT * i end
end
if malformed then return redis.error_reply('ERR append: ' .. malformed) end

local present = call('HMGET', head, 'epoch', 'n', 'ms')
if present[1] ~= epoch then return {'EPOCH', present[1] or ''} end
local n, last_ms = tonumber(present[2]), tonumber(present[3])

local stored = call('HGET', producers, producer)
local last = 0
local refused, actual_of, cut, cut_facts = {}, {}, 0, 0  -- mode 'units'
if mode == 'batch' then
  last = tonumber(match(stored or '', '.*|(%d+);') or '0')
  if sequence <= last then
    for batch in gmatch(stored or '', '|([^|]+)') do
      local known, ms, first, applied, dropped, failure =
        match(batch, '^(%d+);(%d+);(%d+);(%d+);([^;]*);(.*)$')
      if tonumber(known) == sequence then
        return {'OK', ms, first, tonumber(applied), dropped, failure, 0}
      end
    end
    return {'GAP', whole(last)}
  end
  if predecessor ~= last then return {'GAP', whole(last)} end
elseif stored then
  local done, refusals, rest = match(stored, '^%d+|(%d+)|([^|]*)|?([^|]*)')
  last = tonumber(done)
  for known, actual in gmatch(refusals, '(%d+):(%d+)') do
    refused[#refused + 1] = known .. ':' .. actual
    actual_of[tonumber(known)] = actual
  end
  if rest ~= '' then
    local unit, facts = match(rest, '^(%d+):(%d+)$')
    cut, cut_facts = tonumber(unit), tonumber(facts)
  end
end
if mode == 'units' and predecessor > last then return {'GAP', whole(last)} end

-- Of many keys at once: a call costs more than what it does. unpack takes less than 8,000.
local AT_ONCE = 1000
local next_version = {}
if expectations ~= '' then
  local keys = {}
  for arg = FIRST, behind - FACT, FACT do
    local key = ARGV[arg + 1]
    if expected[arg] and not next_version[key] then
      keys[#keys + 1], next_version[key] = key, 0
    end
  end
  for from = 1, #keys, AT_ONCE do
    local some = {unpack(keys, from, math.min(from + AT_ONCE - 1, #keys))}
    for i, version in ipairs(call('HMGET', versions, unpack(some))) do
      next_version[some[i]] = tonumber(version or '0')
    end
  end
end

local first, skipped = n + 1, 0
local actuals = {}
for i = 1, #begins - 1 do
  local from, to, this = begins[i], begins[i + 1] - FACT, own[i]
  if this and this <= last then
    skipped, actuals[i] = skipped + 1, actual_of[this]
  elseif this and this == cut then
    -- Its versions have been compared, and taken for all its facts.
    for arg = from, to, FACT do expected[arg] = nil end
    first, to = first - cut_facts, math.min(to, from + FACT * (cut_facts - 1))
  else
    -- It is refused whole; the units before it count as applied.
    local bumped = {}
    for arg = from, to, FACT do
      local key, version = ARGV[arg + 1], expected[arg]
      if version then
        local actual = bumped[key] or next_version[key]
        if version ~= actual then actuals[i] = whole(actual) break end
        bumped[key] = actual + 1
      end
    end
    if not actuals[i] then
      for key, version in pairs(bumped) do next_version[key] = version end
      to = from - FACT
    end
  end
  for arg = from, to, FACT do left_out[arg] = true end
end

local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ms = math.max(now, last_ms)

local applied, failure, failed = 0, '', behind
local id = whole(ms) .. '-%d'
for arg = FIRST, behind - FACT, FACT do
  if not left_out[arg] then
    local reply = pcall('XADD', log, format(id, n + 1),
      'type', ARGV[arg], 'key', ARGV[arg + 1], 'meta', ARGV[arg + 2], 'data', ARGV[arg + 3])
    -- An id is a string, and has no such field.
    if reply.err then
      failure, failed = string.gsub(reply.err, '[|;%c]', ' '), arg
      break
    end
    n, applied = n + 1, applied + 1
  end
end

local function nothing_stored()
  local code = 'ERROR'
  -- 6.2 wraps the error's code in text, 7 does not.
  if find(failure, 'OOM', 1, true) then code = 'OOM' end
  if find(failure, 'equal or smaller', 1, true) then code = 'FOREIGN' end
  -- Somebody has used the last id that there is.
  if find(failure, 'exhausted', 1, true) then code = 'FOREIGN' end
  return {code, failure}
end

if failure ~= '' and applied == 0 then return nothing_stored() end

local conflicts, taken = {}, failed
-- A unit that was cut stays known until it comes again: the call may be of earlier ones alone.
local rest = cut > 0 and whole(cut) .. ':' .. whole(cut_facts) or ''
for i = 1, #begins - 1 do
  local this, actual = own[i], actuals[i]
  if this == cut then rest = '' end
  if failed < begins[i + 1] then
    if this and failed > begins[i] then
      rest = whole(this) .. ':' .. (failed - begins[i]) / FACT
      -- Nobody else gets a version that facts of this unit will have.
      taken = begins[i + 1]
    end
    break
  end
  if actual then
    conflicts[#conflicts + 1] = (i - 1) .. ':' .. actual
    if this and this > last then refused[#refused + 1] = whole(this) .. ':' .. actual end
  end
  if this and this > last then last = this end
end

if expectations ~= '' then
  local version_of, pairs_of = {}, {}
  for arg = FIRST, taken - FACT, FACT do
    if expected[arg] and not left_out[arg] then version_of[ARGV[arg + 1]] = expected[arg] + 1 end
  end
  for key, version in pairs(version_of) do
    pairs_of[#pairs_of + 1] = key
    pairs_of[#pairs_of + 1] = whole(version)
  end
  for from = 1, #pairs_of, 2 * AT_ONCE do
    call('HSET', versions, unpack(pairs_of, from, math.min(from + 2 * AT_ONCE - 1, #pairs_of)))
  end
end
local ms_text = whole(ms)
if applied > 0 then call('HSET', head, 'n', whole(n), 'ms', ms_text) end

local first_text, there, dropped = whole(first), n - first + 1, table.concat(conflicts, ',')
local outcome
if mode == 'batch' then
  -- They are numbered without a gap: the first one goes once there are as many as are kept.
  local from = stored and find(stored, '|', 1, true)
  if from and sequence > KEPT_BATCHES then from = find(stored, '|', from + 1, true) end
  outcome = whole(now) .. (from and string.sub(stored, from) or '') .. '|' .. whole(sequence) .. ';'
    .. ms_text .. ';' .. first_text .. ';' .. there .. ';' .. dropped .. ';' .. failure
else
  while #refused > KEPT_CONFLICTS do table.remove(refused, 1) end
  outcome = table.concat({whole(now), whole(last), table.concat(refused, ','), rest}, '|')
  if sequence > 0 then outcome = outcome .. '|' .. whole(sequence) end
end
local kept = pcall('HSET', producers, producer, outcome)
-- Memory is checked before a script's first write, which this is if all units were dropped.
if type(kept) == 'table' and kept.err then
  failure = kept.err
  return nothing_stored()
end

-- Processes and dead letters come and go. A reaction's producer, G/S/p/epoch, is kept for ever.
if tonumber(time[2]) % LOOK_EVERY == 0 then
  local some = call('HRANDFIELD', producers, LOOK_AT, 'WITHVALUES')
  for i = 1, #some, 2 do
    local seen = tonumber(match(some[i + 1], '^%d+') or now)
    if some[i] ~= '_' and now - seen > IDLE_MS then
      local _, slashes = string.gsub(some[i], '/', '')
      if slashes ~= 3 then call('HDEL', producers, some[i]) end
    end
  end
end

return {'OK', ms_text, first_text, there, dropped, failure, skipped}
