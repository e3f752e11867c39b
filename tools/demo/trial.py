"""One sample mail sent, and everything that came of it held against what was expected."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.demo.samples import Sample
from tools.demo.site import Series, Site
from tools.smtp_dialogue import Direction, Reply, ServerClosedError, SmtpDialogue

_SETTLE_WITHIN = 15.0  # seconds
_QUEUED = re.compile(r"queued as (\w+)")
_DELIVERED_TO = re.compile(rb"^Delivered-To: (\S+)", re.MULTILINE)

Lines = Sequence[tuple[Direction, str]]


@dataclass(frozen=True)
class Outcome:
    """What came of a sample; `wrong` says where it differs from what was expected."""

    dialogue: Lines
    decisions: Sequence[Mapping[str, Any]]
    moved: Counter[Series]
    became: str
    wrong: tuple[str, ...]


def attempt(site: Site, number: int, sample: Sample) -> Outcome:
    """Send a sample and gather its dialogue, decisions, metrics and what became of the mail."""
    counts, decided = site.counts(), len(site.decisions())
    logged = len(site.postfix.log_lines())
    lines, replies, closed = _talk(site.smtp_port, sample, number)
    _until(lambda: not _unsettled(site, decided, counts))
    decisions = site.decisions(decided)
    moved = site.counts() - counts
    queue_id = _queue_id(replies)
    mails = _delivered(site, number)
    held = any(m["queue_id"] == queue_id for m in site.postfix.queue())
    log = site.postfix.log_lines()[logged:]
    wrong = (
        *_differs("replies", sample.replies, tuple(reply.pair for reply in replies)),
        *_differs("connection closed", sample.closes, closed),
        *_differs("rules", sample.rules, _rules(decisions)),
        *_differs("shadow rules", sample.shadow, _shadow_rules(decisions)),
        *_differs("counted", _counted_as_logged(decisions), _replies(moved)),
        *_differs("held", sample.held, held),
        *_differs("delivered to", tuple(sorted(sample.delivered)), tuple(sorted(mails))),
        *_lacks("the delivered mail", sample.contains, _text(mails)),
        *_lacks("Postfix's log", sample.logged, "\n".join(log)),
    )
    became = _became(queue_id, held=held, mails=mails, sample=sample)
    return Outcome(lines, decisions, moved, became, wrong)


def _talk(port: int, sample: Sample, number: int) -> tuple[Lines, list[Reply], bool]:
    """Send the mail; return the dialogue, the replies from MAIL on, and whether Postfix hung up."""
    replies: list[Reply] = []
    with SmtpDialogue(port, source=sample.client) as smtp:
        smtp.banner()
        smtp.ehlo(sample.helo)
        replies.append(smtp.mail(sample.sender, *sample.parameters))
        to = [smtp.rcpt(recipient) for recipient in sample.recipients]
        replies.extend(to)
        if any(reply.code == 250 for reply in to):
            replies.append(smtp.data())
            if replies[-1].code == 354:
                replies.append(smtp.body(sample.message(number)))
        if closed := replies[-1].code == 421 and smtp.wait_closed(5):
            return tuple(smtp.transcript), replies, closed
        try:
            smtp.quit()
        except ServerClosedError:
            closed = True
        return tuple(smtp.transcript), replies, closed


def _unsettled(site: Site, decided: int, before: Counter[Series]) -> bool:
    """Tell whether mail is under way still, or policyd's log behind its metrics."""
    if any(message["queue_name"] != "hold" for message in site.postfix.queue()):
        return True
    counted = _replies(site.counts() - before).total()
    return counted != len(site.decisions(decided))


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SETTLE_WITHIN
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)


def _queue_id(replies: Sequence[Reply]) -> str:
    found = _QUEUED.search(replies[-1].text)
    return found[1] if found else ""


def _delivered(site: Site, number: int) -> dict[str, bytes]:
    """Find the mailboxes that have this sample."""
    mark = f"\nX-Sample: {number}\n".encode()
    found = {}
    for mail in site.postfix.delivered(site.postfix.mailboxes[0]):
        to = _DELIVERED_TO.search(mail)
        if mark in mail and to is not None:
            found[to[1].decode()] = mail
    return found


def _rules(decisions: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line["rule"] for line in decisions if line.get("rule")))


def _shadow_rules(decisions: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    hits = [hit for line in decisions for hit in line.get("also", ()) if hit["mode"] == "shadow"]
    return tuple(dict.fromkeys(hit["rule"] for hit in hits))


_LABELS = ("code", "enhanced", "frontend", "source", "stage", "verdict")


def _counted_as_logged(decisions: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(line.get(label, "") for label in _LABELS) for line in decisions)


def _replies(moved: Counter[Series]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for (name, labels), count in moved.items():
        if name == "policyd_replies_total":
            found[tuple(value for _, value in labels)] += count
    return found


def _text(mails: Mapping[str, bytes]) -> str:
    return "\n".join(mail.decode("utf-8", "replace") for mail in mails.values())


def _differs(what: str, expected: object, seen: object) -> Iterator[str]:
    if expected != seen:
        yield f"{what}: expected {expected}, seen {seen}"


def _lacks(where: str, expected: str, text: str) -> Iterator[str]:
    if expected not in text:
        yield f"{where} does not have: {expected}"


def _became(queue_id: str, *, held: bool, mails: Mapping[str, bytes], sample: Sample) -> str:
    if not queue_id:
        return "refused"
    if held:
        return "on hold in Postfix's queue"
    if not mails:
        return "discarded"
    known = (
        f", with {sample.contains}" if sample.contains in _text(mails) and sample.contains else ""
    )
    return f"delivered to {', '.join(sorted(mails))}{known}"
