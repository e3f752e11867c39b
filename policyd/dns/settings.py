"""What the configuration says about the DNS: `[dns]`."""

import msgspec


class DnsSettings(msgspec.Struct, frozen=True):
    """
    Whom to ask and how long.

    `servers` are addresses with a port (`192.0.2.53:53`, `[2001:db8::53]:53`); none: those of
    resolv.conf(5). `timeout` is in seconds, for one question with all its attempts. At most
    `most_at_once` questions are under way in a worker; the others wait their turn within their
    timeout.
    """

    servers: tuple[str, ...] = ()
    timeout: float = 3.0
    most_at_once: int = 256
