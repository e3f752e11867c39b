-- Store.greylist: KEYS are the client, the triplet, and where a success is to be noted here the
-- message's record, the unsettled and the connection's newest message (greylist.attempt).
-- Gives the outcome, waits, late, and for a success to be noted 1, or 2 if it was and is new.

local now, instance, delay, retry_window, lifetime, allow_after, settles =
  unpack(cmsgpack.unpack(ARGV[1]))
local client_key, triplet_key, record_key, unsettled, newest = unpack(KEYS)

local function write_triplet(triplet)
  local kept = {
    triplet.first,
    triplet.last,
    triplet.passed,
    triplet.expires,
    triplet.instance,
  }
  write(triplet_key, kept, triplet.expires - now)
end

local function begun(outcome)
  write_triplet({
    first = now,
    last = now,
    passed = false,
    expires = now + retry_window,
    instance = instance,
  })
  return { outcome, math.max(1, delay), -1, 0 }
end

local function passed(triplet, late)
  if not triplet.passed or now - triplet.last >= quotient(lifetime, COARSE) then
    triplet.last = now
    triplet.passed = true
    triplet.expires = now + lifetime
    triplet.instance = instance
    write_triplet(triplet)
  end
  local credit = { client_key, allow_after, lifetime }
  local credited = 0
  if allow_after == 0 then
    credited = 0
  elseif not settles or instance == '' then
    succeeded(credit, instance, now)
  elseif not record_key then
    credited = 1
  elseif note(record_key, unsettled, newest, instance, now, now, {}, { credit }) then
    credited = 2
  end
  return { 'passed', 0, late, credited }
end

local client = read_client(client_key)
if client and client.allowed and not has_expired(client, now) then
  if not client.by_hand and now - client.last >= quotient(lifetime, COARSE) then
    client.last = now
    client.expires = now + lifetime
    write_client(client_key, client, now)
  end
  return { 'auto_allowed', 0, -1, 0 }
end
local kept = read(triplet_key)
if not kept then
  return begun('first')
end
local triplet =
  { first = kept[1], last = kept[2], passed = kept[3], expires = kept[4], instance = kept[5] }
if now >= triplet.expires then
  return begun('expired')
end
local waited = now - triplet.first
if instance ~= '' and triplet.instance == instance then
  return { 'repeated', triplet.passed and 0 or math.max(1, delay - waited), -1, 0 }
end
if triplet.passed then
  return passed(triplet, -1)
end
if waited < delay then
  if instance ~= '' then
    triplet.last = now
    triplet.instance = instance
    write_triplet(triplet)
  end
  return { 'early', delay - waited, -1, 0 }
end
return passed(triplet, waited)
