"""Look-ups that bypass a list's methods answer as the methods do, over real lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.config.policy import load_policy
from policyd.rules.policy import Policy
from policyd.smtp.stage import Stage
from tests.rules.world import Recorder

CONFIGURATION = """
[policy_service]
listen = ["inet:127.0.0.1:10040"]
[addresses]
recipient_delimiter = "+"
[lists.people]
addresses = ["jo@example.org", "@all.example", "<>", "root"]
[lists.places]
domains = ["example.org", ".example.org", "xn--bcher-kva.example"]
[lists.nets]
networks = ["192.0.2.0/25", "2001:db8::/32", "10.0.0.1"]
[lists.mixed]
addresses = ["jo@example.org"]
patterns = ["^bulk"]
"""
FACTS = {
    "sender": ("people", "mixed"),
    "recipient": ("people", "mixed"),
    "sender_domain": ("places",),
    "helo_name": ("places",),
    "client_address": ("nets",),
    "server_address": ("nets",),
    "sasl_username": ("people", "mixed"),
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    tests = [
        (stage, f"{fact} {word} {name}")
        for stage in ("mail", "rcpt")
        for fact, names in FACTS.items()
        for name in names
        for word in ("in", "not in")
        if not (stage == "mail" and fact == "recipient")
    ]
    texts = [
        f'[[rule]]\nname = "{stage} {when}"\nstage = "{stage}"\nwhen = "{when}"\nthen = "score 1"\n'
        for stage, when in tests
    ]
    file = tmp_path_factory.mktemp("lookups") / "policyd.toml"
    file.write_text(CONFIGURATION + "\n".join(texts))
    loaded = load_policy(file)
    assert loaded.policy is not None, [str(problem) for problem in loaded.problems]
    return loaded.policy


NAMES = st.sampled_from(
    ["example.org", "a.b.example.org", "EXAMPLE.ORG.", "bücher.example", "x", "", "..example.org"]
)
MAILS = st.one_of(
    st.sampled_from(
        ["", "jo@example.org", "Jo+tag@Example.ORG", "any@all.example", "bulk1@x", "root", "+@"]
    ),
    st.text(max_size=12),
)
ADDRESSES = st.sampled_from(
    ["192.0.2.1", "192.0.2.200", "2001:db8::1", "::ffff:10.0.0.1", "unknown", "", "junk"]
)


@given(
    st.fixed_dictionaries(
        {
            "sender": MAILS,
            "recipient": MAILS,
            "helo_name": NAMES,
            "client_address": ADDRESSES,
            "server_address": ADDRESSES,
            "sasl_username": MAILS,
        }
    ),
    st.lists(MAILS, max_size=3),
)
def test_the_plain_question_finds_what_the_traced_one_finds(
    policy: Policy, attributes: dict[str, object], recipients: list[str]
) -> None:
    asked = {**attributes, "recipients": tuple(recipients)}
    for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA):
        question = policy.delegation[stage]
        plain, traced = Recorder(), Recorder()
        question.ask(asked, plain)
        question.trace().ask(asked, traced)
        assert plain.score == traced.score
        assert [hit.rule for hit in plain.hits] == [hit.rule for hit in traced.hits]
