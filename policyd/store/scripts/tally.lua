-- Store.stats: count a step of SCAN on this server by the kind of key, so that the keys stay here.
-- ARGV: the cursor, a pattern, how many keys to look at, the length of the prefix. Gives the next
-- cursor, and the numbers of triplets, clients, accounts and messages.

local kinds = { t = 0, c = 0, a = 0, m = 0 }
local step = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
for _, key in ipairs(step[2]) do
  local kind = key:sub(tonumber(ARGV[4]) + 1, tonumber(ARGV[4]) + 1)
  kinds[kind] = kinds[kind] and kinds[kind] + 1
end
return { step[1], kinds.t, kinds.c, kinds.a, kinds.m }
