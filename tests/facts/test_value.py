"""Facts given by their names are what conditions see."""

from collections.abc import Mapping

import pytest

from policyd.facts.table import FACTS, FactType
from policyd.facts.value import ASKING_ONLY, value_of
from policyd.rules.emit import Namespace, assignments

GIVEN: Mapping[str, object] = {
    "client_address": "::FFFF:192.0.2.1",
    "client_name": "MAIL.example.org.",
    "helo_name": "[192.0.2.1]",
    "sender": "Jo@Bücher.example",
    "recipient": "Al+x@Example.ORG",
    "size": "1024",
    "recipient_count": "three",
    "recipients": ("A@example.org",),
    "headers": (("Subject", "x"),),
    "attachments": (("a.txt", "text/plain"),),
    "body_size": 7,
    "local_submission": True,
    "sasl_username": "Jo",
    "service": "mx",
}


@pytest.mark.parametrize("attributes", [GIVEN, {}], ids=["given", "absent"])
@pytest.mark.parametrize(
    "name",
    sorted(n for n, f in FACTS.items() if n not in ASKING_ONLY and f.type is not FactType.MESSAGE),
)
def test_a_fact_by_its_name_is_what_conditions_compiled_over_it_see(
    name: str, attributes: Mapping[str, object]
) -> None:
    lines = [*assignments(frozenset({name})), f"found = f_{name}"]
    names = {**Namespace().names, "a": attributes}
    exec("\n".join(lines), names)
    assert value_of(attributes, name) == names["found"]


@pytest.mark.parametrize("name", sorted(ASKING_ONLY))
def test_what_a_question_alone_knows_is_no_value_of_attributes(name: str) -> None:
    with pytest.raises(KeyError):
        value_of(GIVEN, name)


def test_the_message_is_given_as_it_stands() -> None:
    message = object()
    assert value_of({"message": message}, "message") is message
