"""
Names that c-ares does not ask for, such as `bounce+1=a` of a sender's local part, by dnspython.

They are rare, so that answers are not kept matters less than that they are right.
"""

from collections.abc import Iterable, Iterator
from typing import cast

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.resolver

from policyd.dns.answer import DnsError, Found, Kind, Record
from policyd.dns.names import read
from policyd.dns.settings import DnsSettings


async def ask(settings: DnsSettings, labels: Iterable[bytes], kind: Kind) -> Found:
    """Ask for a name (dns.answer.Resolver.ask), of which names.labels() gave the labels."""
    resolver = dns.asyncresolver.Resolver(configure=not settings.servers)
    resolver.nameservers = [_server(each) for each in settings.servers] or resolver.nameservers
    resolver.lifetime = settings.timeout
    try:
        answer = await resolver.resolve(
            dns.name.Name((*labels, b"")), kind.value, raise_on_no_answer=False, search=False
        )
    except dns.resolver.NXDOMAIN:
        return Found((), exists=False)
    except dns.resolver.NoNameservers as error:
        raise DnsError(_said(error)) from error
    except dns.exception.Timeout as error:
        raise DnsError(f"no answer within {settings.timeout:g} s", late=True) from error
    except (dns.exception.DNSException, OSError) as error:
        raise DnsError(str(error) or type(error).__name__) from error
    records = tuple(_records(answer.response))
    kept = tuple(record for record in records if record.kind in (kind, Kind.CNAME))
    ttl = float(answer.rrset.ttl) if answer.rrset is not None else 0.0
    return Found(kept, ttl=ttl)


def _server(written: str) -> dns.nameserver.Nameserver:
    host, _, port = written.rpartition(":")
    return dns.nameserver.Do53Nameserver(host.strip("[]"), int(port))


def _said(error: dns.resolver.NoNameservers) -> str:
    """Give what the last server said: SERVFAIL, REFUSED."""
    errors = error.kwargs.get("errors") or [("", "", "", "no name server could be reached")]
    return str(errors[-1][3])


def _records(message: dns.message.Message) -> Iterator[Record]:
    for rrset in message.answer:
        name = read(rrset.name.to_text())
        for each in rrset:
            match each:
                case dns.rdtypes.IN.A.A() | dns.rdtypes.IN.AAAA.AAAA():
                    yield Record(name, Kind(dns.rdatatype.to_text(each.rdtype)), each.address)
                case dns.rdtypes.ANY.CNAME.CNAME() | dns.rdtypes.ANY.PTR.PTR():
                    kind = Kind(dns.rdatatype.to_text(each.rdtype))
                    yield Record(name, kind, read(each.target.to_text()))
                case dns.rdtypes.ANY.MX.MX():
                    target = read(each.exchange.to_text())
                    yield Record(name, Kind.MX, target, each.preference)
                case dns.rdtypes.ANY.TXT.TXT():
                    text = b"".join(cast("tuple[bytes, ...]", each.strings))
                    yield Record(name, Kind.TXT, text.decode("ascii", "surrogateescape"))
