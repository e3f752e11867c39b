"""Policies and requests for hypothesis: any rules of any stages that may stand together."""

from hypothesis import strategies as st

from policyd.rules.source import RuleSource
from policyd.smtp.decision import Mode
from policyd.smtp.stage import Stage
from tests.rules.world import rule

ATOMS = (
    "yes()",
    "no()",
    "fails()",
    "sender == 's@example.net'",
    "client_address in partners",
    "client_address not in '10.0.0.0/8'",
    "client_address != '192.0.2.1'",
    "recipient in mailboxes",
    "size > '1 KiB'",
    "score >= 2",
    "count(2) + size > 3",
)
CONDITIONS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
    ),
    max_leaves=6,
)
THENS = st.sampled_from(
    ["accept", "pass", "score 1", "score 3", "warn w", "hold h", "450 4.7.1 x", "550 5.7.1 y"]
)
STAGES = st.sampled_from([Stage.CONNECT, Stage.MAIL, Stage.RCPT, Stage.END_OF_DATA])
REQUESTS = st.fixed_dictionaries(
    {
        "client_address": st.sampled_from(["192.0.2.1", "10.0.0.1", "unknown", ""]),
        "sender": st.sampled_from(["s@example.net", "", "x@y"]),
        "recipient": st.sampled_from(["a@example.org", "x@y"]),
        "recipients": st.sampled_from([("a@example.org",), ("a@example.org", "x@y")]),
        "size": st.sampled_from(["0", "4096", "junk"]),
    }
)


def _source(name: str, stage: Stage, when: str, then: str, mode: Mode) -> RuleSource | None:
    """Give a rule; None where the stage does not know what its condition asks."""
    early = stage is Stage.CONNECT and any(word in when for word in ("sender", "recipient", "size"))
    late = stage is Stage.END_OF_DATA and "recipient " in when
    blind = stage is Stage.MAIL and "recipient" in when
    if early or late or blind:
        return None
    return rule(name, stage, then, when, mode=mode, whole_message=then == "hold h")


def _sources(drawn: list[tuple[Stage, str, str, Mode]]) -> list[RuleSource]:
    made = (_source(f"r{i}", *one) for i, one in enumerate(drawn))
    return [source for source in made if source is not None]


SOURCES = st.lists(
    st.tuples(STAGES, CONDITIONS, THENS, st.sampled_from(Mode)), min_size=1, max_size=6
).map(_sources)
