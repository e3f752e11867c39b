-- Store.give_back without an instance: take amounts from the accounts in KEYS.

local now, reserved = unpack(cmsgpack.unpack(ARGV[1]))
refund(reserved, now)
return 1
