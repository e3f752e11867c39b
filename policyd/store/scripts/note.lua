-- On Cluster: write down in a message's record what it holds elsewhere. KEYS are the record and
-- the unsettled. Gives 1 if anything is new.

local now, instance, reserved, credits = unpack(cmsgpack.unpack(ARGV[1]))
return note(KEYS[1], KEYS[2], nil, instance, now, now, reserved, credits) and 1 or 0
