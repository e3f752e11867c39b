"""The zones that the benchmark's checks ask for, and the way there: a name server, some ms away."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.contender import free_port
from tools.dns_servers import NameServer

AWAY: Final = 0.020
"""Seconds that an answer takes."""
SELECTOR: Final = "mail"
SIGNER: Final = "sender.example"
_SENDERS: Final = 250
"""More than the loads have (requests.c, milter_load.c)."""
_HOSTS: Final = 5


def zones(ttl: int, key: str) -> dict[str, str]:
    """Give the zones, with answers that may be kept for so many seconds; `key` is DKIM's record."""
    senders = []
    for i in range(_SENDERS):
        senders.append(f'sender{i} {ttl} IN TXT "v=spf1 include:_spf.sender.example -all"')
        senders.append(f"sender{i} {ttl} IN MX 10 mail0.sender{i}")
        senders += [f"mail{j}.sender{i} {ttl} IN A 198.18.7.{i}" for j in range(_HOSTS)]
        senders.append(f"mail.sender{i} {ttl} IN A 198.18.7.{i}")
    senders += [
        f'_spf.sender {ttl} IN TXT "v=spf1 {_NETWORKS} -all"',
        f'_dmarc.sender {ttl} IN TXT "v=DMARC1; p=reject"',
        f"{SELECTOR}._domainkey.sender {ttl} IN TXT {_strings(key)}",
        *(f"{at}.first {ttl} IN {what}" for at, what in _LISTED),
        *(f"{at}.second {ttl} IN {what}" for at, what in _LISTED),
        f"TEST.domains {ttl} IN A 127.0.0.2",
    ]
    soa = f"@ {ttl} IN SOA ns.example. postmaster.example. 1 3600 600 86400 {ttl}"
    reverse = f"*.{{}} {ttl} IN PTR mail0.sender0.example."
    arpa = [reverse.format(each) for each in ("in-addr", "ip6")]
    return {"example": "\n".join((soa, *senders)) + "\n", "arpa": "\n".join((soa, *arpa)) + "\n"}


_NETWORKS: Final = "ip4:198.18.0.0/15 ip4:203.0.113.0/24 ip6:2001:db8::/32"
_LISTED: Final = (("2.0.0.127", "A 127.0.0.2"), ("2.0.0.127", 'TXT "a test"'))


def _strings(text: str) -> str:
    """Write a long text as a TXT record's strings."""
    return " ".join(f'"{text[i : i + 200]}"' for i in range(0, len(text), 200))


@contextlib.contextmanager
def far_away(folder: Path, served: dict[str, str]) -> Iterator[str]:
    """Serve zones at an address from which every answer takes its time."""
    folder.mkdir()
    with NameServer(folder, served) as near:
        address = f"127.0.0.1:{free_port()}"
        script = str(Path(__file__).with_name("slow_dns.py"))
        far = subprocess.Popen([sys.executable, script, address, near.address, str(AWAY)])
        try:
            yield address
        finally:
            far.kill()
            far.wait()
