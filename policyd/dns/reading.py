"""Answers of c-ares, read."""

from collections.abc import Iterator
from typing import Final

import pycares
from pycares import errno

from policyd.dns.answer import DnsError, Found, Kind, Record
from policyd.dns.names import read

NOBODY: Final = frozenset({errno.ARES_ETIMEOUT, errno.ARES_ECONNREFUSED})
"""The errors with which no server said anything."""
CANCELLED: Final = errno.ARES_ECANCELLED
"""The error of questions that were given up."""
_SAID: Final = {
    errno.ARES_ESERVFAIL: "SERVFAIL",
    errno.ARES_EREFUSED: "REFUSED",
    errno.ARES_ENOTIMP: "NOTIMP",
    errno.ARES_EFORMERR: "FORMERR",
    errno.ARES_EBADRESP: "an answer that cannot be read",
    errno.ARES_ECONNREFUSED: "no name server could be reached",
    errno.ARES_ETIMEOUT: "no name server answered in time",
    errno.ARES_ECANCELLED: "it was given up",
}


def found_or_failed(result: pycares.DNSResult | None, error: int, kind: Kind) -> Found | DnsError:
    """
    Read the answer to a question for a kind, or why there is none.

    It may be kept for the least TTL of its records; without records of the kind no time is given,
    since c-ares does not hand on the SOA that would tell (RFC 2308).
    """
    if error == errno.ARES_ENOTFOUND:
        return Found((), exists=False)
    if error == errno.ARES_ENODATA:
        return Found(())
    if error or result is None:
        why = _SAID.get(error) or errno.errorcode.get(error, "it was given up")
        return DnsError(why, late=error == errno.ARES_ETIMEOUT)
    kept = [(record, ttl) for record, ttl in _records(result) if record.kind in (kind, Kind.CNAME)]
    records = tuple(record for record, _ in kept)
    if not any(record.kind is kind for record in records):
        return Found(records)
    return Found(records, ttl=float(min(ttl for _, ttl in kept)))


def _records(result: pycares.DNSResult) -> Iterator[tuple[Record, int]]:
    for each in result.answer:
        name, ttl = read(each.name), each.ttl
        match each.data:
            case pycares.ARecordData(addr=address):
                yield Record(name, Kind.A, address), ttl
            case pycares.AAAARecordData(addr=address):
                yield Record(name, Kind.AAAA, address), ttl
            case pycares.CNAMERecordData(cname=target):
                yield Record(name, Kind.CNAME, read(target)), ttl
            case pycares.PTRRecordData(dname=target):
                yield Record(name, Kind.PTR, read(target)), ttl
            case pycares.MXRecordData(priority=preference, exchange=target):
                yield Record(name, Kind.MX, read(target), preference), ttl
            case pycares.TXTRecordData(data=text):
                yield Record(name, Kind.TXT, text.decode("ascii", "surrogateescape")), ttl
