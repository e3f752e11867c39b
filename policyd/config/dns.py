"""`[dns]`: what a resolver is told, and what is doubtful in the table."""

from collections.abc import Iterator

from policyd.config.gather import Part
from policyd.config.model import Config
from policyd.config.problem import Problem
from policyd.dns.settings import DnsSettings


def dns_settings(config: Config) -> DnsSettings:
    """Give what a resolver is told."""
    table = config.dns
    return DnsSettings(table.servers, table.timeout, table.most_at_once)


def judge_dns(config: Config, part: Part) -> Iterator[Problem]:
    """Give what is doubtful in a table whose keys are each right in themselves."""
    longest = config.server.decision_timeout
    if config.dns.timeout >= longest:
        what = f"timeout: decision_timeout gives all checks together {longest:g}s"
        mend = f"write less than {longest:g}s"
        line = part.line("timeout")
        yield Problem(part.document.shown, line, "", what, mend, "warning")
