"""An outline has what is to be known of a configuration, travels, and stays small."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from policyd.config.outline import Outline
from policyd.config.policy import load_policy, outline_of
from policyd.lists.signature import sign
from policyd.lists.source import Kind
from policyd.smtp.stage import FrontEnd, Stage

Write = Callable[..., Path]

TEXT = """\
[policy_service]
listen = ["inet:127.0.0.1:10040"]
[milter]
listen = ["unix:/run/policyd/milter.sock"]
[lists.boxes]
addresses = ["alice@example.org"]
addresses_file = "boxes.txt"
[lists.nothing]
domains = []
[[rule]]
name = "later"
stage = ["mail", "rcpt"]
when = "sender in boxes"
then = "550 5.7.1 No"
[[rule]]
name = "earlier"
stage = "connect"
when = "client_address in '192.0.2.0/24'"
then = "accept"
"""


def outline(main: Path) -> Outline:
    return outline_of(load_policy(main, checks={}))


@pytest.fixture
def found(write: Write) -> Outline:
    main = write(TEXT)
    Path("boxes.txt").write_text("bob@example.org\ncarol@example.org\n")
    return outline(main)


def test_rules_stand_once_each_as_written_whatever_their_stages(found: Outline) -> None:
    assert [(rule.name, rule.stages) for rule in found.rules] == [
        ("later", (Stage.MAIL, Stage.RCPT)),
        ("earlier", (Stage.CONNECT,)),
    ]


def test_stages_have_owners_and_some_have_rules(found: Outline) -> None:
    assert {s for s, f in found.owners.items() if f is FrontEnd.MILTER} == {Stage.END_OF_DATA}
    assert set(found.owners) == set(Stage)
    assert found.ruled == {Stage.CONNECT, Stage.MAIL, Stage.RCPT}


def test_a_list_has_its_definition_its_number_and_its_files_as_they_were(found: Outline) -> None:
    boxes, nothing = found.lists["boxes"], found.lists["nothing"]
    assert (boxes.entries, nothing.entries) == (3, 0)
    assert nothing.source.kinds == {Kind.DOMAINS}
    assert boxes.signatures == {Path("boxes.txt"): sign(Path("boxes.txt"))}
    assert boxes.signatures[Path("boxes.txt")] is not None


def test_the_hash_and_the_keys_are_those_of_the_files(found: Outline) -> None:
    loaded = load_policy(Path("policyd.toml"), checks={})
    assert found.hash == loaded.policy_in_force.hash != ""
    assert found.config == loaded.config


def test_an_outline_travels_whole(found: Outline) -> None:
    travelled: Outline = pickle.loads(pickle.dumps(found))
    assert travelled.config == found.config
    assert travelled.lists == found.lists
    assert (travelled.owners, travelled.ruled) == (found.owners, found.ruled)
    for mine, theirs in zip(found.rules, travelled.rules, strict=True):
        assert all(getattr(mine, key) == getattr(theirs, key) for key in mine.__slots__)


def test_it_holds_neither_compiled_rules_nor_entries_of_files(write: Write) -> None:
    rule = '[[rule]]\nname = "r{0}"\nstage = "rcpt"\nwhen = "size > {0}"\nthen = "550 5.7.1 No"\n'
    main = write(TEXT + "".join(map(rule.format, range(200))))
    Path("boxes.txt").write_text("".join(f"u{n}@example.org\n" for n in range(20_000)))
    found = outline(main)
    assert (len(found.rules), found.lists["boxes"].entries) == (202, 20_001)
    assert len(pickle.dumps(found)) < 4_096 + 200 * 202


def test_a_configuration_with_errors_has_none(write: Write) -> None:
    with pytest.raises(ValueError, match="errors"):
        outline(write("[policy_service]\n"))
