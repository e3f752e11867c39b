-- What every script of the store begins with: what is kept under a key, and the rules of limits
-- and clients, as account.py, greylist.py and ledger.py have them. Values are MessagePack arrays.
-- Numbers are whole milliseconds and amounts below 2^53, which a Lua number holds exactly; they are
-- written with '%.0f' since tostring() keeps 14 digits only.

local STEPS = 60
local GRAIN = 1e-6
local COARSE = 32
local SETTLED_WITHIN = 3600000
local UNSETTLED_LASTS = 25 * SETTLED_WITHIN

local function read(key)
  local packed = redis.call('GET', key)
  return packed and cmsgpack.unpack(packed) or nil
end

-- `lasts` is in milliseconds; nil: for ever
local function write(key, value, lasts)
  if lasts then
    local px = string.format('%.0f', math.max(1, lasts))
    redis.call('SET', key, cmsgpack.pack(value), 'PX', px)
  else
    redis.call('SET', key, cmsgpack.pack(value))
  end
end

-- Divides as Python's // does, floats too.
local function quotient(dividend, divisor)
  local rest = math.fmod(dividend, divisor)
  local whole = (dividend - rest) / divisor
  if rest ~= 0 and (rest < 0) ~= (divisor < 0) then
    whole = whole - 1
  end
  local floor = math.floor(whole)
  return whole - floor > 0.5 and floor + 1 or floor
end

-- accounts: `parts` is flat and in order, {part, amount, part, amount, ...}

local function read_account(key)
  local kept = read(key)
  return kept
    and { window = kept[1], parts = kept[2], level = kept[3], at = kept[4], expires = kept[5] }
end

local function write_account(key, account, now)
  local kept = { account.window, account.parts, account.level, account.at, account.expires }
  write(key, kept, account.expires - now)
end

local function part_of(now, window)
  return quotient(now * STEPS, window)
end

local function leaves(part, window)
  return -quotient(-(part + STEPS + 1) * window, STEPS)
end

local function live_parts(account, window, now)
  local live = {}
  if account and account.window == window then
    local oldest = part_of(now, window) - STEPS
    for i = 1, #account.parts, 2 do
      if account.parts[i] >= oldest then
        live[#live + 1] = account.parts[i]
        live[#live + 1] = account.parts[i + 1]
      end
    end
  end
  return live
end

local function level_of(account, charge, now)
  if not account or account.window ~= charge.window or now >= account.expires then
    return 0
  end
  return math.max(0, account.level - (now - account.at) * charge.most / charge.window)
end

local function until_window(parts, charge, used, now)
  local over = used + charge.amount - charge.most
  for i = 1, #parts, 2 do
    if over <= 0 then
      break
    end
    over = over - parts[i + 1]
    if over <= 0 then
      return math.max(1, leaves(parts[i], charge.window) - now)
    end
  end
  return 0
end

local function until_burst(account, charge, now)
  if charge.burst == 0 then
    return 0
  end
  local over = level_of(account, charge, now) + charge.amount - charge.burst
  if over <= GRAIN then
    return 0
  end
  return math.max(1, -quotient(-(over - GRAIN) * charge.window, charge.most))
end

-- Gives whether a charge is exceeded, what is used, and how long it waits (account.fit).
local function fit(account, charge, now)
  local parts = live_parts(account, charge.window, now)
  local used = 0
  for i = 2, #parts, 2 do
    used = used + parts[i]
  end
  if charge.amount > charge.most or (0 < charge.burst and charge.burst < charge.amount) then
    return true, used, -1
  end
  local waits =
    math.max(until_window(parts, charge, used, now), until_burst(account, charge, now))
  return waits > 0, used, waits
end

-- Finds a part's place, and whether it is there.
local function place_of(parts, part)
  for i = 1, #parts, 2 do
    if parts[i] >= part then
      return i, parts[i] == part
    end
  end
  return #parts + 1, false
end

local function charged(account, charge, now)
  local parts = live_parts(account, charge.window, now)
  local part = part_of(now, charge.window)
  local place, there = place_of(parts, part)
  if there then
    parts[place + 1] = parts[place + 1] + charge.amount
  else
    table.insert(parts, place, charge.amount)
    table.insert(parts, place, part)
  end
  return {
    window = charge.window,
    parts = parts,
    level = charge.burst > 0 and level_of(account, charge, now) + charge.amount or 0,
    at = now,
    expires = leaves(parts[#parts - 1], charge.window),
  }
end

-- `reserved` is {limit, key of the account, mark, window, at, amount, most, settles}.
local function refund(reserved, now)
  for _, each in ipairs(reserved) do
    local key, window, at, amount, most = each[2], each[4], each[5], each[6], each[7]
    local account = read_account(key)
    if account and account.window == window then
      local place, there = place_of(account.parts, part_of(at, window))
      if there and account.parts[place + 1] > amount then
        account.parts[place + 1] = account.parts[place + 1] - amount
      elseif there then
        table.remove(account.parts, place)
        table.remove(account.parts, place)
      end
      local held = math.max(0, amount - math.max(0, account.at - at) * most / window)
      account.level = math.max(0, account.level - held)
      write_account(key, account, now)
    end
  end
end

-- clients

local function read_client(key)
  local kept = read(key)
  return kept
    and {
      successes = kept[1],
      allowed = kept[2],
      last = kept[3],
      expires = kept[4],
      by_hand = kept[5],
      instance = kept[6],
    }
end

local function write_client(key, client, now)
  local kept = {
    client.successes,
    client.allowed,
    client.last,
    client.expires,
    client.by_hand,
    client.instance,
  }
  if client.by_hand then
    write(key, kept)
  else
    write(key, kept, client.expires - now)
  end
end

local function has_expired(client, now)
  return now >= client.expires and not client.by_hand
end

-- `credit` is {key of the client, allow_after, lifetime}. Tells whether it changes anything.
local function succeeded(credit, instance, now)
  local client = read_client(credit[1])
  if not client or has_expired(client, now) then
    client = { successes = 0, allowed = false, by_hand = false, instance = '' }
  end
  if client.allowed or (instance ~= '' and client.instance == instance) then
    return false
  end
  client.successes = client.successes + 1
  client.allowed = client.successes >= credit[2]
  client.last = now
  client.expires = now + credit[3]
  client.instance = instance
  write_client(credit[1], client, now)
  return true
end

local function failed(credit, instance, now)
  local client = read_client(credit[1])
  if client then
    client.successes = math.max(0, client.successes - 1)
    client.allowed = client.by_hand or (client.allowed and client.successes >= credit[2])
    if client.instance == instance then
      client.instance = ''
    end
    write_client(credit[1], client, now)
  end
end

-- records of messages, and of a message in one account on Cluster

local function read_record(key, now)
  local kept = read(key)
  if not kept or now >= kept[2] + SETTLED_WITHIN then
    return nil
  end
  return { instance = kept[1], at = kept[2], spent = kept[3], reserved = kept[4], credits = kept[5] }
end

-- The limits of which a record holds what was to be settled.
local function unsettled_of(record)
  local limits = {}
  if record and not record.spent then
    for _, each in ipairs(record.reserved) do
      if each[8] then
        limits[each[1]] = true
      end
    end
  end
  return limits
end

-- Writes a record, nil to drop it; `before` is unsettled_of() what was there, and `unsettled` the
-- sorted set of what is to be settled until when, nil if it is kept elsewhere.
local function write_record(key, unsettled, instance, before, record, now)
  if record then
    local kept = { record.instance, record.at, record.spent, record.reserved, record.credits }
    write(key, kept, record.at + SETTLED_WITHIN - now)
  else
    redis.call('DEL', key)
  end
  if not unsettled then
    return
  end
  local after = unsettled_of(record)
  for limit in pairs(before) do
    if not after[limit] then
      redis.call('ZREM', unsettled, limit .. '\31' .. instance)
    end
  end
  for limit in pairs(after) do
    if not before[limit] then
      local expires = string.format('%.0f', record.at + SETTLED_WITHIN)
      redis.call('ZADD', unsettled, expires, limit .. '\31' .. instance)
      redis.call('PEXPIRE', unsettled, string.format('%.0f', UNSETTLED_LASTS))
    end
  end
end

-- Writes down what a message holds; tells whether that is new.
local function note(key, unsettled, newest, instance, at, now, reserved, credits)
  local record = read_record(key, now)
  local before = unsettled_of(record)
  record = record or { instance = instance, at = at, spent = false, reserved = {}, credits = {} }
  local new = #reserved > 0
  for _, each in ipairs(reserved) do
    table.insert(record.reserved, each)
  end
  local held = {}
  for _, credit in ipairs(record.credits) do
    held[credit[1]] = true
  end
  for _, credit in ipairs(credits) do
    if not record.spent and not held[credit[1]] then
      table.insert(record.credits, credit)
      new = true
    end
  end
  if new then
    write_record(key, unsettled, instance, before, record, now)
    if newest then
      write(newest, { key, now + SETTLED_WITHIN }, SETTLED_WITHIN)
    end
  end
  return new
end
