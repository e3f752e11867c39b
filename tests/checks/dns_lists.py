"""DNS lists for a real name server to serve."""

from typing import Final

SHORT_LIVED: Final = "$TTL 0\n@ 0 IN SOA ns.invalid. hostmaster.invalid. 1 3600 900 604800 0\n"
"""What makes nobody keep an answer, so that a test can change it."""
TESTED: Final = "2.0.0.127 A 127.0.0.2\n"
"""What a list of addresses is tested with (RFC 5782 section 5)."""


def of_addresses(listed: dict[str, str], text: str = "", *, tested: str = TESTED) -> str:
    """Write a zone of IPv4 addresses, each with its answers, and a reason for all."""
    lines = [SHORT_LIVED, tested]
    for address, answers in listed.items():
        name = ".".join(reversed(address.split(".")))
        lines += [f"{name} A {answer}" for answer in answers.split()]
        lines += [f'{name} TXT "{text}"'] if text else []
    return "\n".join(lines)


def of_names(listed: dict[str, str], *, tested: str = "test A 127.0.1.2\n") -> str:
    """Write a zone of domains, each with its answers."""
    lines = [SHORT_LIVED, tested]
    for name, answers in listed.items():
        lines += [f"{name} A {answer}" for answer in answers.split()]
    return "\n".join(lines)
