-- Store.reserve over the accounts of one server, or over one on Cluster (ledger.reserve). KEYS are
-- the accounts, then, of a message with an instance, its record and if they are kept here the
-- unsettled and the connection's newest message. ARGV: how many accounts, and the request.
-- `at` is when the message's record began, `dry` asks without charging. Gives exceeded, taken,
-- used and waits of each charge.

local count = tonumber(ARGV[1])
local now, instance, at, dry, charges = unpack(cmsgpack.unpack(ARGV[2]))
local record_key, unsettled, newest = KEYS[count + 1], KEYS[count + 2], KEYS[count + 3]

local paid = {}
local function name_of(key, mark)
  return key .. '\31' .. mark
end
local record = record_key and read_record(record_key, now)
for _, each in ipairs(record and record.reserved or {}) do
  paid[name_of(each[2], each[3])] = true
end

-- several charges of one request may be of one account, or the same twice
local trial, changed = {}, {}
local found, reserved = {}, {}
local refused = false
for _, sent in ipairs(charges) do
  local charge =
    { limit = sent[1], amount = sent[3], most = sent[4], window = sent[5], burst = sent[6] }
  local key, mark = KEYS[sent[2]], sent[7]
  trial[key] = trial[key] or read_account(key)
  local exceeded, used, waits = fit(trial[key], charge, now)
  local taken = false
  if paid[name_of(key, mark)] then
    exceeded, waits = false, 0
  elseif exceeded then
    refused = true
  else
    trial[key] = charged(trial[key], charge, now)
    changed[key] = trial[key]
    paid[name_of(key, mark)] = true
    taken = true
    table.insert(reserved, {
      charge.limit,
      key,
      mark,
      charge.window,
      now,
      charge.amount,
      charge.most,
      sent[8],
    })
  end
  for _, value in ipairs({ exceeded and 1 or 0, taken and 1 or 0, used, waits }) do
    table.insert(found, value)
  end
end

if refused or dry then
  for i = 2, #found, 4 do
    found[i] = 0
  end
  return found
end
for key, account in pairs(changed) do
  write_account(key, account, now)
end
if record_key then
  note(record_key, unsettled, newest, instance, at, now, reserved, {})
end
return found
