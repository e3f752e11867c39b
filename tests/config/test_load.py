"""A configuration is loaded whole, or every problem of it is told at once."""

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.config.load import Loaded, load
from policyd.config.problem import Problem
from policyd.lists.source import Kind
from policyd.smtp.decision import Mode
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

Write = Callable[..., Path]

FRONT_END = '[policy_service]\nlisten = ["inet:127.0.0.1:10040"]\n'
WHOLE = """\
[server]
workers = 4
decision_timeout = "1m30s"
drain_timeout = "0s"

[policy_service]
listen = ["inet:127.0.0.1:10040", "unix:/run/policyd/policy.sock"]
socket_mode = "0666"
socket_group = "postfix"
allow = ["127.0.0.0/8", "::ffff:192.0.2.7", "2001:db8::/32"]
max_connections = 1000000

[milter]
listen = ["unix:/run/policyd/milter.sock"]
max_connections = 100

[metrics]
listen = "[::1]:9741"

[log]
format = "json"
decisions = false

[replies]
show_id = true
utf8 = true

[addresses]
recipient_delimiter = "+-"

[lists.local_domains]
domains = ["Example.org", ".example.org"]

[lists.mixed]
addresses = ["alice@example.org"]
addresses_file = "mailboxes.txt"
networks = [
  "192.0.2.0/24",
  "2001:db8::/32",
]
patterns = ['^localhost$']

[[rule]]
name = "first"
stage = "rcpt"
then = "accept"

[[rule]]
name = "second"
stage = ["mail", "end-of-data"]
when = \"\"\"
  sender == ''
\"\"\"
then = "550 5.1.1 No"
mode = "shadow"
on_error = "skip"
whole_message = true
"""


def errors(loaded: Loaded) -> list[str]:
    return [str(problem) for problem in loaded.problems if problem.severity == "error"]


def warnings(loaded: Loaded) -> list[str]:
    return [str(problem) for problem in loaded.problems if problem.severity == "warning"]


def test_every_table_is_read(write: Write) -> None:
    Path("mailboxes.txt").write_text("bob@example.org\n")
    loaded = load(write(WHOLE))
    assert errors(loaded) == []
    model = loaded.model
    assert (model.server.workers, model.server.decision_timeout) == (4, 90.0)
    assert model.server.drain_timeout == 0.0
    assert model.policy_service is not None
    assert model.policy_service.listen[1] == "unix:/run/policyd/policy.sock"
    assert (model.policy_service.socket_mode, model.policy_service.socket_group) == (
        0o666,
        "postfix",
    )
    assert model.policy_service.allow == (
        IPv4Network("127.0.0.0/8"),
        IPv4Network("192.0.2.7/32"),
        IPv6Network("2001:db8::/32"),
    )
    assert model.policy_service.max_connections == 1_000_000
    assert model.milter is not None
    assert (model.milter.socket_mode, model.milter.max_connections) == (0o660, 100)
    assert model.metrics is not None
    assert model.metrics.listen == "[::1]:9741"
    assert (model.log.format, model.log.decisions) == ("json", False)
    assert (model.replies.show_id, model.replies.utf8) == (True, True)


def test_lists_are_loaded_with_their_files(write: Write) -> None:
    Path("mailboxes.txt").write_text("bob@example.org\n")
    loaded = load(write(WHOLE))
    domains, mixed = loaded.lists["local_domains"], loaded.lists["mixed"]
    assert domains.kinds == {Kind.DOMAINS}
    assert domains.holds_domain("www.example.org")
    assert mixed.kinds == {Kind.ADDRESSES, Kind.NETWORKS, Kind.PATTERNS}
    assert mixed.holds_mail("bob-tag@example.org")
    assert mixed.holds_address("2001:db8::1")


def test_rules_keep_their_order_and_the_line_of_each_key(write: Write) -> None:
    Path("mailboxes.txt").write_text("bob@example.org\n")
    first, second = load(write(WHOLE)).rules
    assert (first.name, first.stages, first.when, first.mode) == (
        "first",
        (Stage.RCPT,),
        "",
        Mode.ENFORCE,
    )
    assert first.lines == {"": 43, "name": 44, "stage": 45, "then": 46}
    assert second.stages == (Stage.MAIL, Stage.END_OF_DATA)
    assert second.when.strip() == "sender == ''"
    assert (second.mode, second.on_error, second.whole_message) == (Mode.SHADOW, "skip", True)
    assert second.file == "policyd.toml"
    assert second.lines["when"] == 51
    assert second.lines["then"] == 54


def test_what_is_left_out_has_its_default(write: Write) -> None:
    loaded = load(write(FRONT_END))
    assert loaded.problems == ()
    server, policy = loaded.model.server, loaded.model.policy_service
    assert (server.workers, server.decision_timeout, server.drain_timeout) == (2, 8.0, 30.0)
    assert policy is not None
    assert (policy.allow, policy.max_connections) == (None, 10_000)
    assert loaded.model.metrics is None
    assert loaded.model.milter is None
    assert loaded.model.addresses.recipient_delimiter == "+"
    assert loaded.rules == ()


def test_a_metrics_table_without_keys_listens_at_the_default(write: Write) -> None:
    model = load(write(FRONT_END + "[metrics]\n")).model
    assert model.metrics is not None
    assert model.metrics.listen == "127.0.0.1:9741"


POLICY = "[policy_service]\nlisten = ['inet:localhost:1']\n"
MILTER = "[milter]\nlisten = ['inet:localhost:2']\n"


@pytest.mark.parametrize(
    ("text", "milter"),
    [
        (POLICY, set()),
        (MILTER, set(TRANSACTION)),
        (POLICY + MILTER, {Stage.END_OF_DATA}),
        (POLICY + "stages = ['rcpt', 'vrfy']\n" + MILTER, {Stage.END_OF_DATA}),
        (POLICY + "stages = 'rcpt'\n" + MILTER + "stages = ['mail', 'data']", {"mail", "data"}),
    ],
)
def test_each_stage_is_decided_by_one_front_end(write: Write, text: str, milter: set[str]) -> None:
    loaded = load(write(text))
    assert errors(loaded) == []
    assert {s for s, f in loaded.owners.items() if f is FrontEnd.MILTER} == milter
    if "stages" not in text:
        expected = set(TRANSACTION) if "policy" not in text else set(Stage)
        assert set(loaded.owners) == expected


def test_a_milter_takes_a_thousand_sessions_unless_told_otherwise(write: Write) -> None:
    milter = load(write(MILTER)).model.milter
    assert milter is not None
    assert milter.max_connections == 1_000


@pytest.mark.parametrize(
    ("endpoint", "doubtful"),
    [
        ("unix:/run/policyd.sock", False),
        ("inet:127.0.0.1:10041", False),
        ("inet:127.8.8.8:10041", False),
        ("inet:[::1]:10041", False),
        ("inet:localhost:10041", False),
        ("inet:0.0.0.0:10041", True),
        ("inet:[::]:10041", True),
        ("inet:192.0.2.7:10041", True),
        ("inet:policyd.example.org:10041", True),
    ],
)
def test_an_endpoint_that_other_hosts_reach_is_doubtful(
    write: Write, endpoint: str, doubtful: bool
) -> None:
    listen = f'listen = ["{endpoint}"]\n'
    loaded = load(write(f"[milter]\n{listen}"))
    assert (errors(loaded), bool(warnings(loaded))) == ([], doubtful)
    loaded = load(write(f"[policy_service]\n{listen}"))
    assert (errors(loaded), bool(warnings(loaded))) == ([], doubtful)


def test_a_policy_service_for_other_hosts_that_says_which_is_not_doubtful(write: Write) -> None:
    text = '[policy_service]\nlisten = ["inet:0.0.0.0:10040"]\nallow = ["192.0.2.0/24"]\n'
    assert load(write(text)).problems == ()


def test_a_stage_that_both_front_ends_would_decide_is_refused(write: Write) -> None:
    loaded = load(write(POLICY + MILTER + "stages = ['rcpt', 'end-of-data']\n"))
    (told,) = errors(loaded)
    assert told == (
        "policyd.toml:5: rcpt would be decided by both front ends, also by [policy_service] in "
        "policyd.toml:1; name the stages of [policy_service] too, without these"
    )


def test_included_files_come_in_the_order_of_their_names(write: Write) -> None:
    rule = '[[rule]]\nname = "{0}"\nstage = "rcpt"\nwhen = "x"\nthen = "accept"\n'
    loaded = load(
        write(
            f'include = ["rules.d/*.toml", "last.toml"]\n{FRONT_END}{rule.format("main")}',
            **{
                "rules.d__20": rule.format("twenty"),
                "rules.d__10": rule.format("ten") + "[lists.a]\ndomains = []\n",
                "rules.d__.hidden": "= no toml",
                "last": rule.format("last") + "[lists.b]\ndomains = []\n",
            },
        )
    )
    assert errors(loaded) == []
    assert [rule.name for rule in loaded.rules] == ["main", "ten", "twenty", "last"]
    assert loaded.rules[1].file == "rules.d/10.toml"
    assert set(loaded.lists) == {"a", "b"}
    assert list(map(str, loaded.files)) == [
        "policyd.toml",
        "rules.d/10.toml",
        "rules.d/20.toml",
        "last.toml",
    ]


def test_names_are_shown_as_the_main_file_was_named(write: Write, tmp_path: Path) -> None:
    main = 'include = ["r.toml"]\n[lists.a]\naddresses_file = "boxes.txt"\n'
    write(main, r="x = 1")
    whole = tmp_path / "policyd.toml"
    assert {problem.file for problem in load(whole).problems} == {
        str(whole),
        str(tmp_path / "r.toml"),
    }
    (tmp_path / "boxes.txt").write_text("a b\n")
    assert str(tmp_path / "boxes.txt") in {problem.file for problem in load(whole).problems}


def test_a_file_of_a_list_is_relative_to_the_file_that_names_it(write: Write) -> None:
    Path("lists.d").mkdir()
    Path("lists.d/boxes.txt").write_text("alice@example.org\nb c\n")
    main = write(
        f'include = ["lists.d/*.toml"]\n{FRONT_END}',
        **{"lists.d__boxes": '[lists.boxes]\naddresses_file = "boxes.txt"\n'},
    )
    assert errors(load(main)) == [
        "lists.d/boxes.txt:2: 'b c' has a blank; write one entry a line, without a value"
    ]


def test_all_problems_are_told_at_once_by_file_and_line(write: Write) -> None:
    loaded = load(
        write(
            'include = ["b.toml", "a.toml"]\n[server]\nworkers = 0\nworker = 1\n' + FRONT_END,
            a="[[rule]]\nstage = 5\n",
            b="[log]\nformat = 1\n\n[server]\n",
        )
    )
    assert [(problem.file, problem.line) for problem in loaded.problems] == [
        ("a.toml", 1),
        ("a.toml", 1),
        ("a.toml", 2),
        ("b.toml", 2),
        ("b.toml", 4),
        ("policyd.toml", 3),
        ("policyd.toml", 4),
    ]


def test_rules_are_not_judged_without_the_files_that_they_may_need(write: Write) -> None:
    main = write(
        f'include = ["gone.toml"]\n{FRONT_END}[[rule]]\nname = "a"\nstage = "rcpt"\n'
        'when = "client_address in partners"\nthen = "accept"\n'
    )
    loaded = load(main)
    assert loaded.rules == ()
    (told,) = errors(loaded)
    assert told.startswith("policyd.toml:1: include: gone.toml cannot be read: No such file")


def test_a_main_file_that_cannot_be_read_is_the_only_problem() -> None:
    loaded = load(Path("/nowhere/policyd.toml"))
    (told,) = errors(loaded)
    assert told.startswith("/nowhere/policyd.toml:1: the file cannot be read: No such file")
    assert loaded.rules == ()


def test_long_waits_and_options_without_effect_are_doubtful(write: Write) -> None:
    text = (
        '[server]\ndecision_timeout = "1m40s"\n'
        + FRONT_END
        + "socket_mode = '0600'\n"
        + MILTER
        + '[state]\nprefix = "mx1:"\n'
    )
    told = warnings(load(write(text)))
    assert [line.split(": ")[0] for line in told] == [
        "policyd.toml:2",
        "policyd.toml:2",
        "policyd.toml:5",
        "policyd.toml:9",
    ]


def test_the_hash_is_of_the_contents_of_all_files(write: Write) -> None:
    main = f'include = ["a.toml"]\n{FRONT_END}'
    first = load(write(main, a="")).hash
    assert load(write(main, a="")).hash == first
    assert load(write(main, a="# more")).hash != first
    assert load(write(main + "# more", a="")).hash != first
    assert len(first) == 12


def test_a_message_is_one_line_whatever_was_written(write: Write) -> None:
    loaded = load(write('"a\\nb\\u0007" = 1\n' + FRONT_END))
    (told,) = errors(loaded)
    assert told.isprintable()
    assert "a\\nb\\x07" in told


def test_a_problem_names_its_rule() -> None:
    problem = Problem("f.toml", 3, "greylist", "then: it is empty", "write one")
    assert str(problem) == 'f.toml:3: rule "greylist": then: it is empty; write one'


@given(st.binary(max_size=200))
def test_no_octets_make_the_loader_fail(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    assert load(path).problems


_NAMES = st.sampled_from(
    ["include", "server", "policy_service", "milter", "metrics", "state", "log", "replies",
     "addresses", "lists", "rule", "name", "stage", "stages", "listen", "when", "then", "mode",
     "url", "format", "workers", "domains", "networks", "patterns", "patterns_file", "x", ""]
)  # fmt: skip
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.times()
    | st.sampled_from(["rcpt", "end-of-data", "inet:[::1]:1", "unix:/x", "8s", "*.toml", "(", "\0"])
)
_SHAPES: Any = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4)
)


def as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(str(k))} = {as_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    if value is None:
        return '""'
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@given(st.dictionaries(_NAMES, _SHAPES | st.dictionaries(_NAMES, _SHAPES, max_size=4), max_size=6))
def test_no_shape_of_values_makes_the_loader_fail(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "shapes.toml"
    path.write_text("".join(f"{as_toml(k)} = {as_toml(v)}\n" for k, v in values.items()), "utf-8")
    loaded = load(path)
    assert all(str(problem).isprintable() and problem.line >= 1 for problem in loaded.problems)
