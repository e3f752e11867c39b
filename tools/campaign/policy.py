"""The policy of the campaigns: numbered generations of it, and what each answers.

A generation's number stands in the texts of its replies, so an answer tells which generation
decided. Pure text.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

PASSED: Final = ""
"""The answer that objects to nothing: DUNNO, or a milter's continue."""
DOMAIN: Final = "example.org"


class Kind(StrEnum):
    """What is asked: the local part of a recipient over policy delegation, a Subject over milter.

    `SOMETIMES` is what only odd generations have a rule for.
    """

    DEFERRED = "deferred"
    REFUSED = "refused"
    SOMETIMES = "sometimes"
    PASSED = "passed"


def expected(kind: Kind, generation: int) -> str:
    """Give the answer of a generation: reply codes and text, or `PASSED`."""
    codes = _codes(kind, generation)
    return f"{codes} Policy {generation:05}" if codes else PASSED


def _codes(kind: Kind, generation: int) -> str:
    odd = generation % 2 == 1
    match kind:
        case Kind.DEFERRED:
            return "450 4.2.1" if odd else "450 4.2.0"
        case Kind.REFUSED:
            return "550 5.1.1"
        case Kind.SOMETIMES if odd:
            return "550 5.7.1"
        case _:
            return PASSED


def fits(kind: Kind, answer: str, oldest: int, newest: int) -> bool:
    """Tell whether one of these generations gives the answer."""
    return any(answer == expected(kind, number) for number in range(oldest, newest + 1))


def codes(answer: str) -> str:
    """Give the codes of an answer without its text: `450 4.2.1`, or `PASSED`."""
    return " ".join(answer.split(" ", 2)[:2])


def rules(generation: int, count: int) -> str:
    """Write so many rules in TOML, those that answer last: every request passes all others.

    One rule bears the generation's number in its name: its series come and go with it.
    """
    answering = list(_answering(generation))
    filling = [_filling(number) for number in range(count - len(answering))]
    return "\n".join([*filling, *answering])


def _answering(generation: int) -> Iterator[str]:
    for kind in Kind:
        then = expected(kind, generation)
        if then != PASSED:
            recipient = f"recipient_local == '{kind}'"
            yield _rule(f"recipient-{kind}", "rcpt", recipient, then)
            subject = f"header('Subject') == '{kind}'"
            yield _rule(f"subject-{kind}", "end-of-data", subject, then)
    never = "recipient_local == 'never'"
    yield _rule(f"generation-{generation:05}", "rcpt", never, "550 5.1.1 Never")


def _filling(number: int) -> str:
    name = f"filling-{number:05}"
    high, low = divmod(number, 250)
    match number % 5:
        case 0:
            when = f"header('Subject') == 'offer {number}' and body_size > '1 MiB'"
            return _rule(name, "end-of-data", when, "550 5.7.1 No such offers")
        case 1 | 2:
            when = f"recipient == 'box-{number}@{DOMAIN}'"
            return _rule(name, "rcpt", when, "550 5.1.1 No such mailbox here: {recipient}")
        case 3:
            when = f"client_address in '10.{high}.{low}.0/24' and size > '{number % 40 + 1} MiB'"
            return _rule(name, "rcpt", when, "552 5.3.4 Too big")
        case _:
            when = f"sender_domain == 'sender-{number}.example' and sasl_username == ''"
            return _rule(name, "rcpt", when, "550 5.7.1 Mail from {sender_domain} is not accepted")


def _rule(name: str, stage: str, when: str, then: str) -> str:
    return f'[[rule]]\nname = "{name}"\nstage = "{stage}"\nwhen = "{when}"\nthen = "{then}"\n'
