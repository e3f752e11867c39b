"""A difference names what a new configuration changes, and nothing that only stands elsewhere."""

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.config.difference import RESTART, Change, Difference, difference, needs_restart
from policyd.config.model import TABLES, Config
from policyd.config.outline import ListOutline, Outline
from policyd.config.policy import load_policy, outline_of
from policyd.lists.source import InlineEntry, Kind, ListFile, ListSource
from policyd.rules.source import RuleSource
from policyd.smtp.decision import Mode
from policyd.smtp.stage import Stage

Write = Callable[..., Path]

CERTIFICATE = Path(__file__).parent / "bad" / "191-state-ca-file-without-tls" / "ca.pem"

POLICY = '[policy_service]\nlisten = ["inet:127.0.0.1:10040", "inet:[::1]:10040"]\n'
LIST = '[lists.boxes]\naddresses = ["alice@example.org", "bob@example.org"]\n'
FIRST = '[[rule]]\nname = "first"\nstage = ["mail", "rcpt"]\nwhen = "size > 1"\nthen = "accept"\n'
SECOND = '[[rule]]\nname = "second"\nstage = "rcpt"\nwhen = "size > 2"\nthen = "pass"\n'
THIRD = '[[rule]]\nname = "third"\nstage = "rcpt"\nwhen = "size > 3"\nthen = "550 5.7.1 No"\n'
BASE = POLICY + LIST + FIRST + SECOND + THIRD


def outline(text: str) -> Outline:
    Path("policyd.toml").write_text(text)
    loaded = load_policy(Path("policyd.toml"), checks={})
    assert [str(p) for p in loaded.problems if p.severity == "error"] == []
    return outline_of(loaded)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("boxes.txt").write_text("carol@example.org\n")
    Path("other.txt").write_text("carol@example.org\n")
    Path("ca.pem").write_bytes(CERTIFICATE.read_bytes())


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (BASE, []),
        ("# a comment\n\n" + BASE, []),
        (THIRD + LIST + FIRST.replace('["mail", "rcpt"]', '["rcpt", "mail"]') + SECOND + POLICY,
         ['rule "third" moved']),
        (POLICY + LIST + SECOND + THIRD, ['rule "first" removed']),
        (BASE + SECOND.replace("second", "fourth").replace("2", "4"), ['rule "fourth" added']),
        (BASE.replace('"second"', '"deuxième"'),
         ['rule "second" removed', 'rule "deuxième" added']),
        (BASE.replace("size > 2", "size  > 2"), ['rule "second" changed: when']),
        (BASE.replace("550 5.7.1 No", "550 5.7.1 No!"), ['rule "third" changed: then']),
        (BASE.replace('["mail", "rcpt"]', '"mail"'), ['rule "first" changed: stage']),
        (BASE + 'mode = "shadow"\non_error = "skip"\nwhole_message = true\n',
         ['rule "third" changed: mode, on_error, whole_message']),
        (BASE + 'mode = "enforce"\nwhole_message = false\n', []),
        (POLICY + LIST + THIRD.replace("3", "5") + FIRST + SECOND,
         ['rule "third" changed: when', 'rule "third" moved']),
        (BASE.replace('["alice@example.org", "bob@example.org"]',
                      '["bob@example.org", "alice@example.org"]'), []),
        (BASE.replace(', "bob@example.org"', ""), ['list "boxes" changed: addresses']),
        (BASE.replace(LIST, LIST + 'addresses_file = "boxes.txt"\n'),
         ['list "boxes" changed: addresses_file']),
        (BASE.replace(LIST, LIST + "domains = []\n"), ['list "boxes" changed: domains']),
        (BASE.replace(LIST, ""), ['list "boxes" removed']),
        (BASE + "[lists.more]\npatterns = []\n", ['list "more" added']),
        (BASE + "[replies]\nshow_id = true\n", ["[replies] show_id changed"]),
        (BASE + "[replies]\nshow_id = false\n", []),
        (BASE + '[addresses]\nrecipient_delimiter = "-"\n',
         ["[addresses] recipient_delimiter changed"]),
        (BASE.replace('"inet:127.0.0.1:10040", "inet:[::1]:10040"',
                      '"inet:[::1]:10040", "inet:127.0.0.1:10040"'), []),
        (BASE.replace(POLICY, POLICY + 'stages = ["rcpt", "mail"]\n'),
         ["[policy_service] stages changed"]),
        (BASE + "[metrics]\n", ["[metrics] listen changed"]),
        (BASE + '[milter]\nlisten = ["unix:/run/m"]\nmax_connections = 500\n',
         ["[milter] listen changed", "[milter] max_connections changed"]),
        (BASE + '[server]\ndecision_timeout = "9s"\ndrain_timeout = "1m"\n',
         ["[server] decision_timeout changed", "[server] drain_timeout changed"]),
    ],
)  # fmt: skip
def test_what_changes_is_named_once(new: str, lines: list[str]) -> None:
    found = difference(outline(BASE), outline(new))
    assert list(found.lines()) == lines
    assert bool(found) == bool(lines)


def test_what_moves_to_another_file_stays_the_same() -> None:
    before = outline(BASE)
    Path("rules.toml").write_text(LIST + FIRST + SECOND + THIRD)
    assert not difference(before, outline('include = ["rules.toml"]\n' + POLICY))


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ('addresses_file = "boxes.txt"', 'addresses_file = "other.txt"', ["addresses_file"]),
        ('addresses_file = "boxes.txt"', 'addresses_file = "boxes.txt"\naddresses = []', []),
        ('addresses_file = "boxes.txt"', "addresses = []", ["addresses", "addresses_file"]),
        ("domains = []", "networks = []", ["domains", "networks"]),
    ],
)
def test_a_list_is_what_its_keys_say(old: str, new: str, keys: list[str]) -> None:
    before, after = (outline(f"{POLICY}[lists.boxes]\n{text}\n") for text in (old, new))
    expected = (Change("boxes", tuple(keys)),) if keys else ()
    assert difference(before, after).lists_changed == expected


HOURLY = '[limits.hourly]\nkey = "sasl_username"\nrate = "20 messages per 1h"\n'
OVERRIDDEN = HOURLY + 'overrides_file = "overrides.txt"\n'


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("", HOURLY, ['limit "hourly" added']),
        (HOURLY, "", ['limit "hourly" removed']),
        (HOURLY, HOURLY.replace("hourly", "other"),
         ['limit "hourly" removed', 'limit "other" added']),
        (HOURLY, "\n# a comment\n" + HOURLY.replace("1h", "60m"), []),
        (HOURLY, HOURLY.replace("20", "30"), ['limit "hourly" changed: rate']),
        (HOURLY, HOURLY.replace("messages", "recipients"), ['limit "hourly" changed: rate']),
        (HOURLY, HOURLY.replace("sasl_username", "sender") + "burst = 5\n",
         ['limit "hourly" changed: key, burst']),
        (HOURLY, HOURLY.replace('"sasl_username"', '["sasl_username"]'), []),
        (HOURLY, OVERRIDDEN, ['limit "hourly" changed: overrides_file']),
    ],
)  # fmt: skip
def test_limits_that_come_go_or_change_are_named(old: str, new: str, lines: list[str]) -> None:
    Path("overrides.txt").write_text("alice 50\n")
    found = difference(outline(POLICY + old), outline(POLICY + new))
    assert list(found.lines()) == lines


ZEN = '[dnsbl.zen]\nzone = "zen.example.org"\n'
CODED = ZEN + 'codes = { "127.0.0.2" = 3, "127.0.0.4-127.0.0.7" = 2 }\n'
CODED += 'errors = ["127.0.0.8", "127.0.0.9"]\n'


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("", ZEN, ['DNS list "zen" added']),
        (ZEN, "", ['DNS list "zen" removed']),
        (ZEN, ZEN.replace("dnsbl.zen", "dnsbl.other"),
         ['DNS list "zen" removed', 'DNS list "other" added']),
        (ZEN, "\n# a comment\n" + ZEN.replace("zen.e", "ZEN.E") + "weight = 1\ntext = true\n"
         'kind = "client_address"\nlisted = "127.0.0.2"\ninterval = "900s"\n', []),
        (ZEN, ZEN + 'text = false\nlisted = "127.0.0.3"\n',
         ['DNS list "zen" changed: text, listed']),
        (ZEN, CODED, ['DNS list "zen" changed: weight, codes, errors']),
        (CODED, ZEN + 'codes = { "127.0.0.4 - 127.0.0.7" = 2.0, "127.0.0.2/32" = 3 }\n'
         'errors = ["127.0.0.9", "127.0.0.8"]\n', []),
        (CODED, CODED.replace("= 2", "= 1"), ['DNS list "zen" changed: codes']),
    ],
)  # fmt: skip
def test_dns_lists_that_come_go_or_change_are_named(old: str, new: str, lines: list[str]) -> None:
    found = difference(outline(BASE + old), outline(BASE + new))
    assert list(found.lines()) == lines


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ('servers = ["192.0.2.1"]', 'servers = ["192.0.2.1:53"]\ntimeout = "3s"', []),
        ('servers = ["192.0.2.1", "192.0.2.2"]', 'servers = ["192.0.2.2", "192.0.2.1"]',
         ["[dns] servers changed"]),  # their order is that in which they are asked
        ("", 'timeout = "2s"\nmost_at_once = 9',
         ["[dns] timeout changed", "[dns] most_at_once changed"]),
    ],
)  # fmt: skip
def test_what_is_said_of_the_dns_differs_if_it_means_something_else(
    old: str, new: str, lines: list[str]
) -> None:
    before, after = (outline(f"{POLICY}[dns]\n{text}\n") for text in (old, new))
    assert list(difference(before, after).lines()) == lines
    assert not needs_restart(before.config, after.config)


STAMPING = '[milter]\nlisten = ["inet:127.0.0.1:10041"]\n'


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("", "[authentication]", ["[authentication] results changed"]),
        ("[authentication]\nreceived_spf = false", "",
         ["[authentication] results changed", "[authentication] received_spf changed"]),
        ('[authentication]\nresults = ["arc", "spf"]',
         '[authentication]\nresults = ["spf", "arc"]\nskip_logins = true', []),
        ("[authentication]", '[authentication]\nauthserv_id = "a.example"',
         ["[authentication] authserv_id changed"]),
    ],
)  # fmt: skip
def test_what_is_written_above_messages_can_be_changed_by_a_reload(
    old: str, new: str, lines: list[str]
) -> None:
    before, after = (outline(f"{STAMPING}{text}\n") for text in (old, new))
    assert sorted(difference(before, after).lines()) == sorted(lines)
    assert not needs_restart(before.config, after.config)


def test_overrides_that_changed_are_a_difference() -> None:
    Path("overrides.txt").write_text("alice 50\n")
    before = outline(POLICY + OVERRIDDEN)
    Path("overrides.txt").write_text("# the same\nALICE 50\n")
    assert not difference(before, outline(POLICY + OVERRIDDEN))
    Path("overrides.txt").write_text("alice 50 5\n")
    after = outline(POLICY + OVERRIDDEN)
    assert difference(before, after).limits_changed == (Change("hourly", ("overrides_file",)),)
    assert before.hash != after.hash


def test_entries_of_a_file_are_no_difference() -> None:
    text = f'{POLICY}[lists.boxes]\naddresses_file = "boxes.txt"\n'
    before = outline(text)
    Path("boxes.txt").write_text("carol@example.org\ndave@example.org\n")
    after = outline(text)
    assert (before.lists["boxes"].entries, after.lists["boxes"].entries) == (1, 2)
    assert not difference(before, after)


FULL = Difference(
    keys=("[replies] utf8",),
    rules_added=("a", "b", "c"),
    rules_changed=(Change("d", ("when", "then")), Change("e", ("mode",))),
    lists_removed=("f",),
)


def test_its_fields_are_the_parts_that_there_are() -> None:
    assert FULL.fields() == {
        "keys": ["[replies] utf8"],
        "rules_added": ["a", "b", "c"],
        "rules_changed": {"d": ["when", "then"], "e": ["mode"]},
        "lists_removed": ["f"],
    }
    assert Difference().fields() == {}


def test_long_parts_are_cut_and_say_how_much_is_left_out() -> None:
    assert FULL.fields(most=1) == {
        "keys": ["[replies] utf8"],
        "rules_added": ["a"],
        "rules_added_left_out": 2,
        "rules_changed": {"d": ["when", "then"]},
        "rules_changed_left_out": 1,
        "lists_removed": ["f"],
    }


MILTER = '[milter]\nlisten = ["unix:/run/m"]\n'
REDIS = '[state]\nurl = "rediss://:secret@127.0.0.1"\n'


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("", "[server]\nworkers = 3\n", ["[server] workers"]),
        ("", "[server]\nworkers = 2\n", []),
        ("", '[server]\ndecision_timeout = "9s"\ndrain_timeout = "9s"\n', []),
        ("", MILTER, ["[milter] listen"]),
        (MILTER, "", ["[milter] listen"]),
        (MILTER, MILTER.replace("/m", "/n"), ["[milter] listen"]),
        (MILTER, MILTER + 'socket_mode = "0666"\nsocket_group = "postfix"\nmax_connections = 200\n',
         ["[milter] socket_mode", "[milter] socket_group"]),
        (MILTER, MILTER + 'stages = ["end-of-data"]\n', []),
        ("", 'stages = ["rcpt", "data"]\n', []),
        ("", 'socket_mode = "0666"\nsocket_group = "postfix"\n',
         ["[policy_service] socket_mode", "[policy_service] socket_group"]),
        ("", 'allow = ["192.0.2.0/24"]\nmax_connections = 500\n', []),
        ("", "[metrics]\n", ["[metrics] listen"]),
        ("[metrics]\n", '[metrics]\nlisten = "127.0.0.1:9741"\n', []),
        ("[metrics]\n", '[metrics]\nlisten = "127.0.0.1:9742"\n', ["[metrics] listen"]),
        ("", '[state]\nurl = "sqlite:/s"\n', ["[state] url"]),
        ('[state]\nurl = "sqlite:/s"\n', "", ["[state] url"]),
        ("", '[state]\nurl = "sqlite:/var/lib/policyd/state.sqlite"\ntimeout = "1.0s"\n', []),
        (REDIS, REDIS.replace("secret", "changed"), ["[state] url"]),
        (REDIS, REDIS + 'timeout = "2s"\nprefix = "mx:"\n',
         ["[state] timeout", "[state] prefix"]),
        (REDIS.replace(":secret@", ""), REDIS.replace(":secret@", "")
         + 'password_file = "boxes.txt"\nca_file = "ca.pem"\n',
         ["[state] password_file", "[state] ca_file"]),
        ("", '[log]\nformat = "json"\n', ["[log] format"]),
        ("", "[log]\ndecisions = false\n", []),
        ("", '[replies]\nutf8 = true\n[addresses]\nrecipient_delimiter = ""\n', []),
        ("", '[log]\nformat = "json"\n[server]\nworkers = 1\n',
         ["[server] workers", "[log] format"]),
    ],
)  # fmt: skip
def test_what_needs_a_restart_is_named(old: str, new: str, keys: list[str]) -> None:
    before, after = outline(POLICY + old).config, outline(POLICY + new).config
    assert list(needs_restart(before, after)) == keys


def test_a_policy_service_that_comes_or_goes_needs_a_restart() -> None:
    alone, both = outline(MILTER).config, outline(POLICY + MILTER).config
    assert needs_restart(alone, both) == ("[policy_service] listen",)
    assert needs_restart(both, alone) == ("[policy_service] listen",)


def test_each_key_that_needs_a_restart_is_one() -> None:
    known = {f"[{name}] {key}" for name, table in TABLES.items() for key in table.model_fields}
    assert known.issuperset(RESTART)


_TEXTS = st.sampled_from(["", "a", "b"])
_RULES = st.builds(
    RuleSource,
    name=st.sampled_from("abcdefgh"),
    stages=st.permutations(tuple(Stage)).map(lambda stages: tuple(stages[:2])),
    when=_TEXTS,
    then=_TEXTS,
    mode=st.sampled_from(Mode),
    on_error=_TEXTS,
    whole_message=st.booleans(),
    file=_TEXTS,
    lines=st.dictionaries(_TEXTS, st.integers()),
)
_SOURCES = st.builds(
    ListSource,
    name=st.sampled_from("ABC"),
    kinds=st.frozensets(st.sampled_from(Kind)),
    file=_TEXTS,
    line=st.integers(),
    inline=st.lists(
        st.builds(InlineEntry, st.sampled_from(Kind), _TEXTS, _TEXTS, st.integers()), max_size=3
    ).map(tuple),
    files=st.lists(
        st.builds(
            ListFile,
            st.sampled_from(Kind),
            _TEXTS.map(Path),
            _TEXTS,
            _TEXTS,
            st.integers(),
        ),
        max_size=2,
    ).map(tuple),
)
_CONFIGS = st.builds(
    lambda tables: Config.model_validate(
        {name: TABLES[name].model_validate(table) for name, table in tables.items()}
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "server": st.fixed_dictionaries({}, optional={"workers": st.integers(1, 3)}),
            "milter": st.just({"listen": ["unix:/m"]}) | st.just({"listen": ["unix:/n"]}),
            "metrics": st.just({}),
            "state": st.just({"url": "redis://a"}) | st.just({"prefix": "b:"}),
            "log": st.fixed_dictionaries({}, optional={"decisions": st.booleans()}),
            "replies": st.fixed_dictionaries({}, optional={"utf8": st.booleans()}),
        },
    ),
)
_OUTLINES = st.builds(
    lambda config, rules, lists: Outline(
        config,
        tuple(rules),
        {},
        frozenset(),
        {source.name: ListOutline(source, {}, 0) for source in lists},
        "",
    ),
    _CONFIGS,
    st.lists(_RULES, unique_by=lambda rule: rule.name),
    st.lists(_SOURCES, unique_by=lambda source: source.name),
)


@given(_OUTLINES)
def test_nothing_differs_from_itself_nor_from_its_copy(one: Outline) -> None:
    copied: Outline = pickle.loads(pickle.dumps(one))
    assert difference(one, one) == difference(one, copied) == Difference()
    assert needs_restart(one.config, copied.config) == ()


@given(_OUTLINES, _OUTLINES)
def test_applied_to_the_old_names_it_gives_the_new_ones_in_their_order(
    old: Outline, new: Outline
) -> None:
    found = difference(old, new)
    elsewhere = {*found.rules_added, *found.rules_moved}
    assert elsewhere.isdisjoint(found.rules_removed)
    stay = [r.name for r in old.rules if r.name not in {*elsewhere, *found.rules_removed}]
    assert stay == [rule.name for rule in new.rules if rule.name not in elsewhere]
    assert {*stay, *elsewhere} == {rule.name for rule in new.rules}
    assert {*old.lists, *found.lists_added} - {*found.lists_removed} == {*new.lists}


@given(_OUTLINES, _OUTLINES)
def test_the_way_back_takes_away_what_came_and_changes_the_same(old: Outline, new: Outline) -> None:
    there, back = difference(old, new), difference(new, old)
    assert (there.rules_added, there.rules_removed) == (back.rules_removed, back.rules_added)
    assert (there.lists_added, there.lists_removed) == (back.lists_removed, back.lists_added)
    assert set(there.rules_changed) == set(back.rules_changed)
    assert set(there.lists_changed) == set(back.lists_changed)
    assert len(there.rules_moved) == len(back.rules_moved)
    assert there.keys == back.keys
    assert needs_restart(old.config, new.config) == needs_restart(new.config, old.config)


@given(_OUTLINES, _OUTLINES)
def test_what_needs_a_restart_is_among_the_changed_keys(old: Outline, new: Outline) -> None:
    changed = difference(old, new).keys
    assert needs_restart(old.config, new.config) == tuple(k for k in changed if k in RESTART)


@given(_OUTLINES, _OUTLINES)
def test_it_is_false_only_when_every_rule_says_the_same(old: Outline, new: Outline) -> None:
    def meanings(outline: Outline) -> Iterator[RuleSource]:
        return (replace(rule, stages=(), file="", lines={}) for rule in outline.rules)

    if not difference(old, new):
        assert list(map(repr, meanings(old))) == list(map(repr, meanings(new)))
        assert [set(r.stages) for r in old.rules] == [set(r.stages) for r in new.rules]


@given(_OUTLINES, _OUTLINES)
def test_its_fields_are_json_and_its_lines_are_one_a_part(old: Outline, new: Outline) -> None:
    found = difference(old, new)
    said = json.loads(json.dumps(found.fields()))
    assert sum(map(len, said.values())) == len(found.lines())
    assert bool(said) == bool(found)


@pytest.mark.parametrize("count", range(1, 6))
def test_the_fewest_rules_are_named_as_moved(count: int) -> None:
    names = "abcde"[:count]
    empty = Outline(Config(), (), {}, frozenset(), {}, "")

    def ordered(order: tuple[str, ...]) -> Outline:
        rules = tuple(RuleSource(name, (Stage.RCPT,), "", "accept") for name in order)
        return replace(empty, rules=rules)

    for order in permutations(names):
        moved = difference(ordered(tuple(names)), ordered(order)).rules_moved
        longer = combinations(names, count - len(moved) + 1)
        assert not any(sorted(run, key=order.index) == list(run) for run in longer)
