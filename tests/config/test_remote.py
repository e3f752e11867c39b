"""Lists that are looked up remotely: what their tables say, what is read, what a reload changes."""

import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from policyd.config.difference import difference
from policyd.config.outline import Outline
from policyd.config.policy import Loaded, load_policy, outline_of
from policyd.lists.remote.settings import (
    Holds,
    LdapPlace,
    LdapQuestion,
    RedisPlace,
    RedisQuestion,
    RemoteList,
    SqlPlace,
    SqlQuestion,
)

Write = Callable[..., Path]

HEAD = '[policy_service]\nlisten = ["inet:127.0.0.1:10040"]\n'
QUERY = "SELECT 1 FROM mailboxes WHERE address IN :keys"
SQL = f"""\
[lists.boxes]
sql = "postgresql://policyd@127.0.0.1/mail"
query = "{QUERY}"
holds = "addresses"
"""


def loaded(main: Path) -> Loaded:
    found = load_policy(main, checks={})
    assert [problem for problem in found.problems if problem.severity == "error"] == []
    return found


def said(main: Path) -> list[str]:
    return [f"{problem.what}; {problem.mend}" for problem in load_policy(main, checks={}).problems]


def outline(write: Write, text: str) -> Outline:
    return outline_of(loaded(write(HEAD + text)))


def test_a_list_in_sql_has_these_defaults(write: Write) -> None:
    assert loaded(write(HEAD + SQL)).remote == {
        "boxes": RemoteList(
            "boxes",
            SqlPlace("postgresql://policyd@127.0.0.1/mail", timeout=1.0),
            SqlQuestion(QUERY),
            Holds.ADDRESSES,
            recipient_delimiter="+",
            cache=60.0,
            stale=3600.0,
        )
    }


def test_every_key_is_taken_over(write: Write) -> None:
    main = write(
        HEAD
        + """\
[addresses]
recipient_delimiter = "-"
[lists.blocked]
redis = "redis://127.0.0.1:6380/1"
set = "blocked"
holds = "domains"
cache = "5m"
stale = "0s"
timeout = "0.5s"
tls = true
[lists.staff]
ldap = "ldaps://ldap.example.org"
base = "ou=people,dc=example,dc=org"
filter = "(&(mail={key})(objectClass=person))"
holds = "texts"
bind_dn = "cn=policyd,dc=example,dc=org"
password_file = "secret"
"""
    )
    Path("secret").write_text("geheim\nmore\n")
    assert loaded(main).remote == {
        "blocked": RemoteList(
            "blocked",
            RedisPlace("redis://127.0.0.1:6380/1", timeout=0.5, tls=True),
            RedisQuestion("blocked"),
            Holds.DOMAINS,
            recipient_delimiter="-",
            cache=300.0,
            stale=0.0,
        ),
        "staff": RemoteList(
            "staff",
            LdapPlace(
                "ldaps://ldap.example.org",
                password="geheim",
                bind_dn="cn=policyd,dc=example,dc=org",
            ),
            LdapQuestion("ou=people,dc=example,dc=org", "(&(mail={key})(objectClass=person))"),
            Holds.TEXTS,
            recipient_delimiter="-",
        ),
    }


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://policyd:p%40ss@[::1]:5433/mail",
        "postgresql://policyd@/mail?host=/run/postgresql",
        "mysql://policyd@db.example.org/mail",
        "mysql://policyd@/mail?unix_socket=/run/mysqld/mysqld.sock",
        "sqlite:/var/lib/mail.sqlite",
    ],
)
def test_databases_that_can_be_named(write: Write, url: str) -> None:
    main = write(HEAD + SQL.replace("postgresql://policyd@127.0.0.1/mail", url))
    assert loaded(main).remote["boxes"].place == SqlPlace(url)


def test_loading_opens_nothing(write: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        loaded(write(HEAD + SQL.replace("127.0.0.1", f"127.0.0.1:{port}")))
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    ("table", "module", "told"),
    [
        (SQL, "asyncpg", "postgresql: needs asyncpg, which is not installed"),
        (SQL, "sqlalchemy", "postgresql: needs sqlalchemy, which is not installed"),
        (
            SQL.replace("postgresql:", "mysql:"),
            "aiomysql",
            "mysql: needs aiomysql, which is not installed",
        ),
    ],
)
def test_what_installs_a_missing_extra_is_told(
    write: Write, monkeypatch: pytest.MonkeyPatch, table: str, module: str, told: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert said(write(HEAD + table)) == [f"{told}; pip install 'policyd[sql]'"]


def test_a_directory_needs_an_extra_of_its_own(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ldap3", None)
    table = '[lists.x]\nldap = "ldap://h"\nbase = "o=x"\nfilter = "(mail={key})"\nholds = "texts"\n'
    assert said(write(HEAD + table)) == [
        "ldap: needs ldap3, which is not installed; pip install 'policyd[ldap]'"
    ]


def test_a_password_is_in_no_message_and_no_representation(write: Write) -> None:
    main = write(HEAD + SQL.replace("policyd@", "policyd:geheim@") + "tls = 1\n")
    found = load_policy(main, checks={})
    assert "tls" in str(found.problems)
    main = write(HEAD + SQL + 'password_file = "secret"\n')
    Path("secret").write_text("geheim\n")
    also = load_policy(main, checks={})
    for each in (found.problems, found.remote, also.problems, also.remote, outline_of(also)):
        assert "geheim" not in repr(each)


def test_an_outline_has_remote_lists_and_travels(write: Write) -> None:
    found = outline(write, SQL)
    assert pickle.loads(pickle.dumps(found)) == found
    assert list(found.remote) == ["boxes"]
    assert found.lists == {}


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("127.0.0.1/mail", "127.0.0.1/other", "sql"),
        ("SELECT 1", "SELECT 2", "query"),
        ('"addresses"', '"texts"', "holds"),
        ('"addresses"', '"addresses"\ncache = "2m"', "cache"),
        ('"addresses"', '"addresses"\nstale = "2m"', "stale"),
        ('"addresses"', '"addresses"\ntimeout = "2s"', "timeout"),
        ('"addresses"', '"addresses"\ntls = true', "tls"),
    ],
)
def test_a_key_that_says_something_else_is_a_difference(
    write: Write, old: str, new: str, key: str
) -> None:
    before = outline(write, SQL)
    after = outline(write, SQL.replace(old, new))
    assert difference(before, after).fields() == {"lists_changed": {"boxes": [key]}}
    assert not difference(before, outline(write, f"\n{SQL}"))


def test_a_list_that_moves_to_a_place_or_from_one_changes_what_says_so(write: Write) -> None:
    here = outline(write, '[lists.boxes]\naddresses = ["a@example.org"]\n')
    there = outline(write, SQL)
    keys = {"addresses", "sql", "query", "holds", "cache", "stale", "timeout"}
    for found in (difference(here, there), difference(there, here)):
        (change,) = found.lists_changed
        assert change.name == "boxes"
        assert keys <= set(change.keys)
    nothing = outline(write, "")
    assert difference(nothing, there).lists_added == ("boxes",)
    assert difference(there, nothing).lists_removed == ("boxes",)
