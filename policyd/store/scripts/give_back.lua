-- Store.give_back of a message with an instance (ledger.give_back). KEYS are its record, the
-- unsettled if they are kept here, and the accounts. `given` are keys of accounts and marks,
-- `credit` the key of a client. With `elsewhere`, the accounts are of other slots (Cluster) and
-- not touched; with `keep`, the record stays though it be empty. Gives the accounts' keys and
-- marks of what was reserved.

local now, given, credit, elsewhere, unsettled, keep = unpack(cmsgpack.unpack(ARGV[1]))
local record = read_record(KEYS[1], now)
if not record then
  return {}
end
local before = unsettled_of(record)
local marks = {}
for _, each in ipairs(given) do
  marks[each[1] .. '\31' .. each[2]] = true
end
local back, kept, credits, answer = {}, {}, {}, {}
for _, each in ipairs(record.reserved) do
  if marks[each[2] .. '\31' .. each[3]] then
    table.insert(back, each)
    table.insert(answer, each[2])
    table.insert(answer, each[3])
  else
    table.insert(kept, each)
  end
end
for _, each in ipairs(record.credits) do
  if each[1] ~= credit then
    table.insert(credits, each)
  end
end
record.reserved, record.credits = kept, credits
local left = keep or #kept > 0 or #credits > 0
if not elsewhere then
  refund(back, now)
end
write_record(
  KEYS[1],
  unsettled and KEYS[2] or nil,
  record.instance,
  before,
  left and record or nil,
  now
)
return answer
