"""The resolver of a worker."""

from policyd.dns.answer import DnsError, Found, Kind
from policyd.dns.settings import DnsSettings


class CaresResolver:
    """Asks by c-ares."""

    def __init__(self, settings: DnsSettings) -> None:
        """Ask nobody yet."""

    async def ask(self, name: str, kind: Kind) -> Found:
        """Ask; see dns.answer.Resolver."""
        raise DnsError("nobody is asked yet")

    def configure(self, settings: DnsSettings) -> None:
        """Ask by other settings from the next question on."""

    async def close(self) -> None:
        """Give up."""
