-- On Cluster: count a message's success for the client in KEYS, or take it back. Gives 1 if it
-- changed anything.

local now, instance, allow_after, lifetime, success = unpack(cmsgpack.unpack(ARGV[1]))
local credit = { KEYS[1], allow_after, lifetime }
if success then
  return succeeded(credit, instance, now) and 1 or 0
end
failed(credit, instance, now)
return 1
