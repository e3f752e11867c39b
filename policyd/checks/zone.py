"""A DNS list as the configuration defines it: `[dnsbl.NAME]` (RFC 5782)."""

import msgspec


class Zone(msgspec.Struct, frozen=True):
    """A DNS list."""

    name: str
    zone: str
