"""Whatever a sender puts into any fact that a text can show, the reply stays ours."""

import pytest

from policyd.facts.table import FACTS, FactType
from policyd.protocol.milter import Status, milter_answer
from policyd.protocol.postfix import LINE_LIMIT
from policyd.smtp.decision import Source
from policyd.smtp.stage import FrontEnd, Stage
from tests.rules.world import ALL_MILTER, ALL_POLICY, compiled, rule
from tests.service.test_service import World

SIZE = 64 * 1024
VALUES = {
    "crlf": "a\r\n550 5.0.0 b\r\n.\r\n",
    "nul": "a\0b",
    "surrogates": "a\udcff\ud800b",
    "percent": "100%s %% %",
    "utf8": "é\u202e\u2028💥",
    "pair": "421 4.7.0 hang up",
    "long": "x" * SIZE,
    "long utf8": "é" * SIZE,
    "long blank": " " * SIZE,
    "long controls": "\r\n\0\t" * (SIZE // 4),
    "braces": "{sender} {{0}} {0.__class__}",
}
SHOWN = [
    (front_end, stage, fact.name)
    for fact in FACTS.values()
    for front_end in FrontEnd
    for stage in sorted(fact.known[front_end])[:1]
    if fact.type is not FactType.MESSAGE  # which no text shows
]


def given(name: str, value: str) -> dict[str, object]:
    """Put a value where the fact is read from, in the form that its front end gives."""
    base = {"sender_local": "sender", "sender_domain": "sender", "helo_is_address": "helo_name"}
    name = base.get(name, name.replace("recipient_local", "recipient"))
    name = name.replace("recipient_domain", "recipient")
    kind = FACTS[name].type
    if name == "headers":
        return {name: (("Subject", value), (value, "x"))}
    return {name: (value, value) if kind in (FactType.MAILS, FactType.TEXTS) else value}


@pytest.mark.parametrize("which", VALUES)
@pytest.mark.parametrize(("front_end", "stage", "name"), SHOWN)
def test_the_reply_is_one_printable_line_with_our_pair(
    front_end: FrontEnd, stage: Stage, name: str, which: str
) -> None:
    owners = ALL_POLICY if front_end is FrontEnd.POLICY else ALL_MILTER
    policy = compiled(rule("r", stage, f"550 5.7.1 {{{name}}}"), owners=owners)
    world = World(policy)
    attributes = given(name, VALUES[which])
    if front_end is FrontEnd.POLICY:
        answer = world.ask(stage, alone=True, **attributes)  # type: ignore[arg-type] # attributes
        assert answer.wire.startswith(b"action=550 5.7.1 ")
        assert answer.wire.endswith(b"\n\n")
        assert answer.wire.count(b"\n") == 2
    else:
        answer = world.service.decide_milter(stage, attributes, policy)
        world.service.written(answer)
        assert milter_answer(answer.decision).status is Status.REJECT
    assert answer.decision.source is Source.RULE
    reply = answer.decision.reply
    assert reply is not None
    assert str(reply).startswith("550 5.7.1 ")
    assert reply.text.strip()
    assert reply.text.isascii()
    assert reply.text.isprintable()
    assert len(str(reply)) <= LINE_LIMIT
    assert world.count("policyd_replies_total", code="550", enhanced="5.7.1") == 1
