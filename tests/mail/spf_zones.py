"""DNS data as the RFC 7208 test suite writes it, asked as work asks, and questions about it."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from policyd.dns.answer import DnsError, Found, Kind, Record
from policyd.mail.spf import Identity, SpfAnswer, SpfEvaluation, SpfQuestion
from policyd.mail.spf_query import evaluate

SUITE: Final = Path(__file__).parent / "vectors" / "rfc7208-tests.yml"
CLIENT: Final = "192.0.2.1"
TIMEOUT: Final = "TIMEOUT"

Data = Mapping[str, Any]


class ZoneData:
    """
    Answers from the suite's `zonedata`: names to records `{TYPE: value}` or `TIMEOUT`.

    What is there of type SPF is there as TXT too, unless the name has TXT of its own. After
    `TIMEOUT` a question that nothing before it has answered gets no answer. `asked` is what was.
    """

    def __init__(self, data: Data, ttl: float = 300.0) -> None:
        self.asked: list[tuple[str, Kind]] = []
        self._ttl = ttl
        self._names = {name.lower(): tuple(_records(records)) for name, records in data.items()}

    def ask(self, name: str, kind: Kind) -> Found:
        self.asked.append((name, kind))
        return self._found(name, kind)

    def _found(self, name: str, kind: Kind) -> Found:
        if name.lower() not in self._names:
            return Found((), exists=False, ttl=self._ttl)
        found: list[Record] = []
        for word, value in self._names[name.lower()]:
            if (word == TIMEOUT and not found) or (word == kind and value == TIMEOUT):
                raise DnsError(f"{name} {kind}: no answer in time", late=True)
            if word == "CNAME":
                found.append(Record(name, Kind.CNAME, value.lower()))
                found += self._found(value, kind).records
            elif word == kind and value != "NONE":
                found.append(_record(name, kind, value))
        return Found(tuple(found), ttl=self._ttl)


def _records(records: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    every = [(TIMEOUT, None) if each == TIMEOUT else next(iter(each.items())) for each in records]
    has_txt = any(word == "TXT" for word, _ in every)
    for word, value in every:
        yield word, value
        if word == "SPF" and not has_txt:
            yield "TXT", value


def _record(name: str, kind: Kind, value: Any) -> Record:
    match kind:
        case Kind.MX:
            preference, server = value
            return Record(name, kind, server.rstrip(".").lower(), preference)
        case Kind.TXT:
            octets = (value if isinstance(value, str) else "".join(value)).encode()
            return Record(name, kind, octets.decode("ascii", "surrogateescape"))
    return Record(name, kind, value)


def scenarios() -> list[Mapping[str, Any]]:
    """Read the suite."""
    return list(yaml.safe_load_all(SUITE.read_text("utf-8")))


def question(
    domain: str = "example.test",
    address: str = CLIENT,
    *,
    local: str = "jo",
    helo: str = "helo.test",
    seconds: float = 5.0,
) -> SpfQuestion:
    """Ask about MAIL FROM."""
    return SpfQuestion(address, Identity.MAIL_FROM, local, domain, helo, "receiver.test", seconds)


def evaluated(
    data: Data,
    asked: SpfQuestion | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SpfEvaluation:
    """Evaluate with such data."""
    return evaluate(asked or question(), ZoneData(data), clock)


def answer(data: Data, asked: SpfQuestion | None = None) -> SpfAnswer:
    """Give the answer alone."""
    return evaluated(data, asked).answer


def spf(*records: str, **others: Iterable[Any]) -> dict[str, Any]:
    """Give the data of example.test and, by their first label, of names under it."""
    return {"example.test": [{"SPF": record} for record in records]} | {
        f"{label}.example.test": records for label, records in others.items()
    }
