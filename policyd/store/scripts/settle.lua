-- Store.settle and Store.abandon (ledger.settle, ledger.abandon). KEYS are the message's record, or
-- with `newest` what names the newest record of a connection, and the unsettled. `how` is
-- accepted, refused or abandoned. The accounts and clients are named by the record, so they are
-- not among KEYS; with `elsewhere` they are of other slots (Cluster) and not touched. Gives two
-- lists: accounts' keys and marks to be given back, clients' keys with allow_after and lifetime.

local now, how, recipients, newest, elsewhere = unpack(cmsgpack.unpack(ARGV[1]))
local record_key, unsettled = KEYS[1], KEYS[2]
if newest then
  local kept = read(KEYS[1])
  if not kept or now >= kept[2] then
    return { {}, {} }
  end
  record_key = kept[1]
  redis.call('DEL', KEYS[1])
end
local record = read_record(record_key, now)
if not record or (how == 'abandoned' and record.spent) then
  return { {}, {} }
end
local before = unsettled_of(record)
local SHADOW = '\31shadow}'

-- Gives the key of an account as that of the same one out of shadow.
local function shown(key)
  if key:sub(-#SHADOW) == SHADOW then
    return key:sub(1, -#SHADOW - 1) .. '}'
  end
  return key
end

-- Splits what is reserved into what stays and what was for recipients that Postfix refused: the
-- latest of each account (ledger._beyond).
local function divided()
  local first, several = {}, {}
  for _, each in ipairs(record.reserved) do
    local limit, key, mark = each[1], each[2], each[3]
    if mark ~= '' then
      first[limit] = first[limit] or shown(key)
      several[limit] = several[limit] or shown(key) ~= first[limit]
    end
  end
  local kept, beyond, counted = {}, {}, {}
  for _, each in ipairs(record.reserved) do
    local limit, key, mark = each[1], each[2], each[3]
    local list = kept
    if recipients >= 0 and mark ~= '' and not several[limit] then
      local of = limit .. '\31' .. key
      counted[of] = (counted[of] or 0) + 1
      list = counted[of] > recipients and beyond or kept
    end
    table.insert(list, each)
  end
  return kept, beyond
end

local back, credits = {}, {}
if how == 'accepted' then
  record.reserved, back = divided()
  if not record.spent then
    credits = record.credits
    if not elsewhere then
      local counted = {}
      for _, credit in ipairs(credits) do
        if succeeded(credit, record.instance, now) then
          table.insert(counted, credit)
        end
      end
      record.credits = counted
    end
  end
  record.spent = true
else
  back = record.reserved
  credits = record.spent and record.credits or {}
  if not elsewhere then
    for _, credit in ipairs(credits) do
      failed(credit, record.instance, now)
    end
  end
end
if not elsewhere then
  refund(back, now)
end
write_record(
  record_key,
  unsettled,
  record.instance,
  before,
  how == 'accepted' and record or nil,
  now
)
local accounts, clients = {}, {}
for _, each in ipairs(back) do
  table.insert(accounts, each[2])
  table.insert(accounts, each[3])
end
for _, each in ipairs(credits) do
  for i = 1, 3 do
    table.insert(clients, each[i])
  end
end
return { accounts, clients }
