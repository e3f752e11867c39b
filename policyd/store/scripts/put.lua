-- Store.put: join what stands under each of KEYS with the value in ARGV[2], ARGV[3], ...
-- (ledger.put). The first argument is the moment and the kinds of KEYS: t, c or a.

local now, kinds = unpack(cmsgpack.unpack(ARGV[1]))

local join = {}

function join.t(key, new)
  local old = read(key)
  if old and now < old[4] then
    local latest = new[2] > old[2] and new or old
    local first, expires = math.min(old[1], new[1]), math.max(old[4], new[4])
    new = { first, latest[2], old[3] or new[3], expires, latest[5] }
  end
  write(key, new, new[4] - now)
end

function join.c(key, new)
  local old = read(key)
  if old and (old[5] or now < old[4]) then
    new = {
      math.max(old[1], new[1]),
      old[2] or new[2],
      math.max(old[3], new[3]),
      math.max(old[4], new[4]),
      old[5] or new[5],
      '',
    }
  end
  if new[5] then
    write(key, new)
  else
    write(key, new, new[4] - now)
  end
end

local function joined_parts(old, new)
  local parts = {}
  for i = 1, #new, 2 do
    table.insert(parts, new[i])
    table.insert(parts, new[i + 1])
  end
  for i = 1, #old, 2 do
    local place, there = place_of(parts, old[i])
    if there then
      parts[place + 1] = math.max(parts[place + 1], old[i + 1])
    else
      table.insert(parts, place, old[i + 1])
      table.insert(parts, place, old[i])
    end
  end
  return parts
end

function join.a(key, new)
  local old = read_account(key)
  if old and now < old.expires and old.window == new[1] then
    local parts = live_parts(old, old.window, now)
    if #parts > 0 or old.level ~= 0 then
      local latest = new[4] > old.at and new or { 0, 0, old.level, old.at }
      local expires = math.max(old.expires, new[5])
      new = { new[1], joined_parts(parts, new[2]), latest[3], latest[4], expires }
    end
  end
  write(key, new, new[5] - now)
end

for i, key in ipairs(KEYS) do
  join[kinds[i]](key, cmsgpack.unpack(ARGV[i + 1]))
end
return #KEYS
