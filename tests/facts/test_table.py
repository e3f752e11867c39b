"""The table of facts beside what the front ends hand over."""

from policyd.facts.table import FACTS, where_known
from policyd.protocol.delegation import ATTRIBUTES
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

DERIVED = {
    "sender_local",
    "sender_domain",
    "recipient_local",
    "recipient_domain",
    "helo_is_address",
    "service",
    "now",
    "score",
}
MILTER_ONLY = {"local_submission", "recipients", "headers", "utf8_headers", "attachments"}
MILTER_ONLY |= {"body_size", "message"}


def test_every_attribute_of_postfix_is_a_fact() -> None:
    assert set(FACTS) - DERIVED - MILTER_ONLY == set(ATTRIBUTES) - {"request"}


def test_what_only_a_milter_knows_policy_delegation_never_does() -> None:
    assert {n for n, f in FACTS.items() if not f.known[FrontEnd.POLICY]} == MILTER_ONLY


def test_a_milter_knows_nothing_at_vrfy_and_etrn() -> None:
    assert all(fact.known[FrontEnd.MILTER] <= set(TRANSACTION) for fact in FACTS.values())


def test_the_recipient_is_no_fact_at_data_and_end_of_data() -> None:
    for name in ("recipient", "recipient_domain", "recipient_local"):
        known = FACTS[name].known[FrontEnd.POLICY]
        assert known == {Stage.RCPT, Stage.VRFY}


def test_every_fact_says_where_it_is_known() -> None:
    assert all(where_known(fact).startswith(("at ", "to ")) for fact in FACTS.values())
