"""A real name server, a recursive one that asks it, and one that misbehaves."""

from collections.abc import Iterator

import pytest

from tools.dns_servers import NameServer, Recursive, Unruly

ZONE = r"""
@       IN MX 10 MX1.example.test.
@       IN MX 20 mx2
@       IN TXT "v=spf1 " "-all"
@       IN TXT "caf\233"
www     IN A 192.0.2.1
www     IN A 192.0.2.2
www     IN AAAA 2001:db8::1
alias   IN CNAME www
chain   60 IN CNAME alias
nowhere IN CNAME gone
null    IN MX 0 .
*.w     IN A 192.0.2.9
bounce+1=a IN A 192.0.2.7
a\032b  IN A 192.0.2.8
caf\195\169 IN TXT "coffee"
a\000   IN MX 10 mx1
to+www  IN CNAME www
user+tag IN PTR www
brief   1 IN A 192.0.2.3
once    0 IN A 192.0.2.4
lame    IN NS ns.lame
ns.lame IN A 127.0.0.99
"""
LONG = "".join(f'long IN TXT "{number:03} {"x" * 60}"\n' for number in range(60))
"""More than fits into a datagram."""
REVERSE = "1 IN PTR www.example.test.\n"


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    zones = {
        "example.test": ZONE + LONG,
        "2.0.192.in-addr.arpa": REVERSE,
        "broken.test": "a IN A x",
    }
    with NameServer(tmp_path_factory.mktemp("nsd"), zones) as server:
        yield server


@pytest.fixture(scope="module")
def unbound(nsd: NameServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recursive]:
    stubs = {"example.test": nsd.address, "elsewhere.test": nsd.address}
    with Recursive(tmp_path_factory.mktemp("unbound"), stubs) as server:
        yield server


@pytest.fixture
def unruly() -> Iterator[Unruly]:
    with Unruly() as server:
        yield server
