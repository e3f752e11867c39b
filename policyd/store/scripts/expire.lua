-- Store.expire: take so many off the unsettled in KEYS[1] whose time is over, each once.

local now, most = unpack(cmsgpack.unpack(ARGV[1]))
local over = redis.call(
  'ZRANGEBYSCORE',
  KEYS[1],
  '-inf',
  string.format('%.0f', now),
  'LIMIT',
  '0',
  string.format('%.0f', most)
)
if #over > 0 then
  redis.call('ZREM', KEYS[1], unpack(over))
end
return over
