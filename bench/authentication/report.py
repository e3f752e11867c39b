"""What was found about authentication, as Markdown and as JSON."""

from collections.abc import Callable
from typing import Final

import msgspec

from bench.authentication import checks, spf
from bench.authentication.results import Measured, Results
from bench.report import machine, table, versions

COMMAND: Final = "make bench-authentication"


def nothing_yet() -> Results:
    """Give results of this machine in which no part has been measured."""
    return Results(machine=machine(), software=versions())


def as_json(results: Results) -> str:
    """Write results for programs."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1).decode() + "\n"


def from_json(text: str) -> Results:
    """Read what as_json() wrote."""
    return msgspec.json.decode(text, type=Results)


def document(results: Results) -> str:
    """Give the Markdown document."""
    return _DOCUMENT.format(
        command=COMMAND,
        machine=results.machine,
        software=", ".join(f"{name} {version}" for name, version in results.software.items()),
        sections="\n\n".join(sections(results)),
    )


def sections(results: Results) -> list[str]:
    """Give a section for each part that was measured."""
    parts = ((name, getattr(results, name)) for name in _SECTIONS)
    return [_section(name, found) for name, found in parts if found is not None]


def _section(name: str, found: Measured) -> str:
    title, unit, about = _SECTIONS[name]
    measured = found.measured
    lines = [
        f"## {title}",
        _HEAD.format(command=f"python -m bench.authentication {name} --write", measured=measured),
        table(found.rows, cell="connections", unit=unit),
    ]
    if found.left_out:
        lines.append(f"Left out, as they did not start: {', '.join(found.left_out)}.")
    lines.append(about())
    return "\n\n".join(lines)


def _about_policy() -> str:
    return _ABOUT_POLICY.format(kept=checks.KEPT, anew=checks.ANEW)


def _about_messages() -> str:
    return _ABOUT_MESSAGES.format(kept=checks.KEPT, anew=checks.ANEW)


def _about_spf() -> str:
    return _ABOUT_SPF.format(repeated=spf.REPEATED, fresh=spf.FRESH, far=spf.FAR, near=spf.NEAR)


_SECTIONS: Final[dict[str, tuple[str, str, Callable[[], str]]]] = {
    "policy": ("Every check of policy delegation", "requests", _about_policy),
    "messages": ("Every check of a message", "messages", _about_messages),
    "spf": ("SPF beside policyd-spf", "requests", _about_spf),
}

_HEAD: Final = """\
`{command}`; {measured.date}; medians of {measured.rounds} rounds of {measured.seconds:g} s; load
average before {measured.load_average:.1f}"""

_ABOUT_POLICY: Final = """\
The 20 rules of `bench/policy.toml`, which all of the load passes, alone and with those of
`bench/authentication/checks.toml` behind them: reverse DNS, the HELO name, the sender's domain,
three DNS lists at once, SPF with one include. One worker. Each answer of the DNS takes 20 ms.
**{kept}**: answers' TTL is an hour, so most of what a request asks has been asked before.
**{anew}**: the TTL is 0, so every request pays for all of its questions, several turns of 20 ms
one after the other."""

_ABOUT_MESSAGES: Final = """\
The 20 rules of `bench/milter.toml` at end-of-data, alone and with those of
`bench/authentication/messages.toml` behind them: DMARC with SPF and DKIM, ARC, the content with its
archives; `Authentication-Results` and `Received-SPF` are added. Messages of 8 KiB with an RSA
signature of 2048 bits that is verified, ten a session. One worker, which has two processes that
read messages. **{kept}** and **{anew}** as above.

Latency is the client's, from connecting on. A decision takes a third of a second on average at
such a load (`policyd_request_duration_seconds`), most of it in line for the two processes. Beside
it stand waits of two seconds and more when 100 sessions begin together: they are libmilter's, whose
pool of threads (Debian's build) is slow to grow. A milter that does nothing but wait 0.3 s at the
end of each message has the same (p90 of 2.4 s). A round in which all sessions meet them counts few
messages, hence the spread."""

_ABOUT_SPF: Final = """\
MAIL FROM alone is evaluated, at RCPT, by policies with one include: two questions to the DNS. Each
request is another message's, of a thousand pairs of client and sender; the ratio is to the first
row. policyd has one rule and one worker. **{repeated}**: the TTL is an hour, so a pair that comes
again is not evaluated again. **{fresh}**: the TTL is 0, as if each sender were the first of its
domain. **{far}**: Debian's postfix-policyd-spf-python, a process a connection as under spawn(8),
with the same answers 20 ms away; it keeps none. **{near}**: the same with answers at once, as from
a resolver of the same host that has kept them all. It finds its server and its connections by
`bench/authentication/policyd_spf/sitecustomize.py`, in place of resolv.conf(5) and standard input;
its processes are started before and serve one connection after the other, so that no start is
measured. It checks no HELO, adds no header and logs nothing."""

_DOCUMENT: Final = """\
# Benchmarks of remote checks

What the checks cost that ask the DNS and read messages. `{command}` repeats it and rewrites this
file; `bench/authentication/results.json` has the same for programs. The figures are recorded, not
asserted: no test fails for being slow. How to read the columns: docs/benchmarks.md.

- {machine}
- {software}
- the name server, what delays its answers, and the load generator run on the same machine; what is
  compared takes turns in random order, round by round, in one run; compare inside a table only

{sections}
"""
