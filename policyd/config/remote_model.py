"""The keys of `[lists.NAME]` tables that say where a list is looked up, with their defaults."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

from pydantic import BeforeValidator, Field

from policyd.config import units
from policyd.config.model import Table
from policyd.config.problem import choose_from
from policyd.config.units import WrongValueError
from policyd.lists.remote.settings import Holds

SQL_SCHEMES: Final = ("postgresql", "mysql", "sqlite")
_SQL_FORMS: Final = "write postgresql://user@host/database, mysql://… or sqlite:/path"
_SOCKET_KEYS: Final[Mapping[str, str]] = {"postgresql": "host", "mysql": "unix_socket"}
"""What a URL may say after its `?`: the path of a server's socket."""
_BIND: Final = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)(?!:)", re.ASCII)
_IN_PARENTHESES: Final = re.compile(r"\(\s*:keys\s*\)", re.ASCII)
_READS: Final = re.compile(r"\s*(?:SELECT|WITH)\b", re.ASCII | re.IGNORECASE)
_LONGEST: Final = "7d"


def _text(example: str) -> BeforeValidator:
    return BeforeValidator(partial(units.read_text, example=example))


def _split(text: str, forms: str) -> tuple[str, str | None, Mapping[str, str]]:
    """Read a URL's scheme, host and options; no message shows it, since it may hold a password."""
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError as error:
        raise WrongValueError("it is no URL", forms) from error
    if not port_is_right or parts.fragment:
        raise WrongValueError("it is no URL", forms)
    return parts.scheme, parts.hostname, dict(parse_qsl(parts.query, keep_blank_values=True))


def _sql_url(value: object) -> str:
    text = units.read_text(value, '"postgresql://policyd@127.0.0.1/mail"')
    scheme, host, options = _split(text, _SQL_FORMS)
    if scheme not in SQL_SCHEMES:
        near = {"postgres": "postgresql", "mariadb": "mysql", "sqlite3": "sqlite"}.get(scheme)
        mend = f"write {near}:" if near else choose_from(scheme, SQL_SCHEMES)
        raise WrongValueError(f'"{scheme}:" is no database', mend)
    if scheme == "sqlite":
        if re.fullmatch(r"sqlite:/(?!/).*[^/]", text) is None:
            raise WrongValueError("sqlite: names no file by an absolute path", "write sqlite:/path")
        return text
    known = _SOCKET_KEYS[scheme]
    if set(options) - {known}:
        mend = f"only {known}=/path of a socket may stand there; encryption is tls = true"
        raise WrongValueError("it has options after its question mark", mend)
    if not host and not options:
        mend = f"write {scheme}://user@host/database, or {scheme}://user@/database?{known}=/path"
        raise WrongValueError("it names no host", mend)
    if len(urlsplit(text).path) < 2:
        raise WrongValueError("it names no database", f"write {scheme}://user@host/database")
    return text


def _redis_url(value: object) -> str:
    forms = "write redis://host:6379/0 or rediss://…"
    text = units.read_text(value, '"redis://127.0.0.1/0"')
    scheme, host, options = _split(text, forms)
    if scheme not in ("redis", "rediss"):
        raise WrongValueError(f'"{scheme}:" is no Redis server', forms)
    if not host or options or not re.fullmatch(r"(?:/[0-9]*)?", urlsplit(text).path, re.ASCII):
        raise WrongValueError("it names no host, or more than that and a number", forms)
    return text


def _ldap_url(value: object) -> str:
    forms = "write ldap://host or ldaps://host"
    text = units.read_text(value, '"ldap://127.0.0.1"')
    scheme, host, _ = _split(text, forms)
    if scheme not in ("ldap", "ldaps"):
        raise WrongValueError(f'"{scheme}:" is no directory', forms)
    if not host or "@" in text or "?" in text or urlsplit(text).path not in ("", "/"):
        mend = "say the rest in base, filter, bind_dn and password_file"
        raise WrongValueError("it names no host, or more than that and a port", mend)
    return text


def _query(value: object) -> str:
    example = "SELECT 1 FROM mailboxes WHERE address IN :keys"
    text = units.read_text(value, f'"{example}"')
    if _READS.match(text) is None:
        raise WrongValueError("it does not begin with SELECT or WITH", f"write it as {example}")
    names = set(_BIND.findall(text))
    if "keys" not in names:
        raise WrongValueError("it does not use :keys", f"write it as {example}")
    if names - {"keys"}:
        other = min(names - {"keys"})
        raise WrongValueError(
            f"nothing stands for :{other}", rf"there is :keys; else write \:{other}"
        )
    if _IN_PARENTHESES.search(text):
        raise WrongValueError("parentheses stand around :keys", "write IN :keys; it has its own")
    return text


def _filter(value: object) -> str:
    example = '"(mail={key})"'
    text = units.read_text(value, example)
    if "{key}" not in text:
        raise WrongValueError("it does not use {key}", f"write it as {example}")
    depth = 0
    for place, sign in enumerate(text):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth < 1 and place < len(text) - 1:
            break
    if depth or not text.endswith(")"):
        raise WrongValueError("its parentheses do not match", f"write it as {example}")
    return text


def _holds(value: object) -> Holds:
    text = units.read_text(value, '"addresses"')
    if text in set(Holds):
        return Holds(text)
    raise WrongValueError(f'a list does not hold "{text}"', choose_from(text, tuple(Holds)))


def _bounded(longest: str) -> BeforeValidator:
    return BeforeValidator(partial(units.read_bounded_duration, longest=longest))


class RemoteTable(Table):
    """
    What every remote list says: what it holds, how long answers serve and are waited for, seconds.

    Files are relative to the file that names them.
    """

    holds: Annotated[Holds, BeforeValidator(_holds)]
    cache: Annotated[float, _bounded(_LONGEST)] = 60.0
    stale: Annotated[float, _bounded(_LONGEST)] = 3600.0
    timeout: Annotated[
        float, BeforeValidator(partial(units.read_split_seconds, least=0.1, most=10.0))
    ] = 1.0
    password_file: Annotated[str, _text('"/etc/policyd/password"')] = ""
    tls: bool = False
    ca_file: Annotated[str, _text('"/etc/ssl/certs/ours.pem"')] = ""


class SqlTable(RemoteTable):
    """A list in a database."""

    sql: Annotated[str, BeforeValidator(_sql_url), Field(repr=False)]
    query: Annotated[str, BeforeValidator(_query)]


class RedisTable(RemoteTable):
    """A list that is a set in Redis."""

    redis: Annotated[str, BeforeValidator(_redis_url), Field(repr=False)]
    set: Annotated[str, _text('"blocked"')]


class LdapTable(RemoteTable):
    """A list in a directory."""

    ldap: Annotated[str, BeforeValidator(_ldap_url)]
    base: Annotated[str, _text('"ou=people,dc=example,dc=org"')]
    filter: Annotated[str, BeforeValidator(_filter)]
    bind_dn: Annotated[str, _text('"cn=policyd,dc=example,dc=org"')] = ""


REMOTE_TABLES: Final[Mapping[str, type[RemoteTable]]] = {
    "sql": SqlTable,
    "redis": RedisTable,
    "ldap": LdapTable,
}
"""The keys that name a place, each with the table of the lists that are there."""
