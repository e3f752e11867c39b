"""From a `[lists.NAME]` table that names a place to a list that is looked up there."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from msgspec import structs

from policyd.config.files import find_certificates, read_password
from policyd.config.gather import Part
from policyd.config.model import Config
from policyd.config.problem import Problem, Severity
from policyd.config.remote_model import (
    REMOTE_TABLES,
    LdapTable,
    RedisTable,
    RemoteTable,
    SqlTable,
)
from policyd.config.translate import read_table
from policyd.lists.remote.settings import (
    LdapPlace,
    LdapQuestion,
    RedisPlace,
    RedisQuestion,
    RemoteList,
    SqlPlace,
    SqlQuestion,
)
from policyd.lists.source import Kind

_MODULES: Final = {
    "postgresql": ("sql", ("sqlalchemy", "asyncpg")),
    "mysql": ("sql", ("sqlalchemy", "aiomysql")),
    "sqlite": ("sql", ("sqlalchemy", "aiosqlite")),
    "ldap": ("ldap", ("ldap3",)),
    "ldaps": ("ldap", ("ldap3",)),
}
"""The extra that each kind of place needs, and the modules that it brings."""
KEYS: Final = tuple(dict.fromkeys(key for t in REMOTE_TABLES.values() for key in t.model_fields))
"""All keys of remote lists' tables."""


def is_remote(part: Part) -> bool:
    """Tell whether a list's table names a place where it is looked up."""
    return any(key in part.values for key in REMOTE_TABLES)


def read_remote(name: str, part: Part, config: Config) -> tuple[RemoteList, tuple[Problem, ...]]:
    """
    Make a remote list of its table, and open nothing.

    A wrong one is somewhere unknown and holds whatever it may, so that rules can be judged further.
    """
    reader = _Reader(name, part)
    made = reader.made(config.addresses.recipient_delimiter)
    if made.place.timeout >= config.server.decision_timeout:
        what = "timeout: all checks of one decision together have no more ([server])"
        mend = f"write less than {config.server.decision_timeout:g}s"
        reader.blame("timeout", what, mend, error=False)
    return made, tuple(reader.problems)


class _Reader:
    """Reads one table; what is wrong with it is kept beside."""

    def __init__(self, name: str, part: Part) -> None:
        self._name = name
        self._part = part
        self._source = ""
        self.problems: list[Problem] = []

    def blame(self, key: str, what: str, mend: str, *, error: bool = True) -> None:
        """Keep a problem of a key."""
        line = self._part.line(key) if key in self._part.values else self._part.line()
        severity: Severity = "error" if error else "warning"
        self.problems.append(Problem(self._part.document.shown, line, "", what, mend, severity))

    def made(self, recipient_delimiter: str) -> RemoteList:
        """Give the list, or what stands for it if the table is wrong."""
        called = f"[lists.{self._name}]"
        source, *others = (key for key in REMOTE_TABLES if key in self._part.values)
        self._source = source
        for key in others:
            what = f"{called} is looked up by {source} already"
            self.blame(key, what, "give each place a list of its own")
        own = [key for key in self._part.values if key.removesuffix("_file") in set(Kind)]
        for key in own:
            what = f"{called} is looked up by {source}, and has entries of its own"
            mend = f"give these a list of their own, and ask both: in {self._name} or …"
            self.blame(key, what, mend)
        left_out = {*others, *own}
        values = {key: value for key, value in self._part.values.items() if key not in left_out}
        part = Part(self._part.document, self._part.at, values)
        table, problems = read_table(REMOTE_TABLES[source], part, called=called)
        self.problems.extend(problems)
        if table is None:
            return RemoteList(self._name, SqlPlace(""), SqlQuestion(""), holds=None)
        return self._list(table, recipient_delimiter)

    def _list(self, table: RemoteTable, recipient_delimiter: str) -> RemoteList:
        place: SqlPlace | RedisPlace | LdapPlace
        question: SqlQuestion | RedisQuestion | LdapQuestion
        match table:
            case SqlTable(sql=url):
                place, question = SqlPlace(url), SqlQuestion(table.query)
            case RedisTable(redis=url):
                place, question = RedisPlace(url), RedisQuestion(table.set)
            case LdapTable(ldap=url):
                place = LdapPlace(url, bind_dn=table.bind_dn)
                question = LdapQuestion(table.base, table.filter)
                self._judge_bind(table)
            case _:
                raise TypeError(table)
        self._judge_url(url)
        return RemoteList(
            self._name,
            structs.replace(
                place,
                timeout=table.timeout,
                password=self._password(table, url),
                tls=table.tls,
                ca_file=self._ca_file(table, url),
            ),
            question,
            table.holds,
            recipient_delimiter=recipient_delimiter,
            cache=table.cache,
            stale=table.stale,
        )

    def _judge_bind(self, table: LdapTable) -> None:
        """Refuse a name without a password, which is no login at all (RFC 4513 section 5.1.2)."""
        if bool(table.bind_dn) is not bool(table.password_file):
            key = "bind_dn" if table.bind_dn else "password_file"
            what = f"{key}: of bind_dn and password_file the other is not there"
            self.blame(key, what, "write both, or neither to search without a name")

    def _judge_url(self, url: str) -> None:
        """Hold a URL against what is installed and the keys beside it."""
        scheme = url.partition(":")[0]
        extra, modules = _MODULES.get(scheme, ("", ()))
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            what = f"{scheme}: needs {' and '.join(missing)}, which is not installed"
            self.blame(self._source, what, f"pip install 'policyd[{extra}]'")
        if scheme == "sqlite":
            for key in ("password_file", "tls", "ca_file"):
                if key in self._part.values:
                    what = f"{key} is for servers, and sqlite: is none"
                    self.blame(key, what, "leave it out", error=False)

    def _password(self, table: RemoteTable, url: str) -> str:
        if not table.password_file:
            return ""
        if urlsplit(url).password:
            what = "password_file: there is a password in the URL too"
            self.blame("password_file", what, "leave one of the two out")
        password, problems = read_password(self._part, table.password_file)
        self.problems.extend(problems)
        return password

    def _ca_file(self, table: RemoteTable, url: str) -> str:
        if not table.ca_file:
            return ""
        if not table.tls and not url.startswith(("rediss:", "ldaps:", "sqlite:")):
            self.blame("ca_file", "ca_file: TLS is not asked for", "add tls = true")
        path, problems = find_certificates(self._part, table.ca_file)
        self.problems.extend(problems)
        return path


def said(remote: RemoteList) -> Mapping[str, object]:
    """Give what each key of a remote list's table says, of all the keys that such tables have."""
    place, question = remote.place, remote.question
    values: dict[str, object] = dict.fromkeys(KEYS)
    values |= {
        "holds": remote.holds,
        "cache": remote.cache,
        "stale": remote.stale,
        "timeout": place.timeout,
        "password_file": place.password,
        "tls": place.tls,
        "ca_file": place.ca_file,
    }
    match place:
        case SqlPlace(url=url):
            values["sql"] = url
        case RedisPlace(url=url):
            values["redis"] = url
        case LdapPlace(url=url, bind_dn=bind_dn):
            values |= {"ldap": url, "bind_dn": bind_dn}
    return values | structs.asdict(question)
