"""
Lists in LDAP directories, through ldap3 in threads: it has no asyncio form.

A thread ends with its time limits, which are whole seconds; who asks does not wait for it longer
than the list's timeout.
"""

import asyncio
import contextlib
import math
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ldap3 import (
    AUTO_BIND_NONE,
    NO_ATTRIBUTES,
    NONE,
    SUBTREE,
    Connection,
    Server,
    Tls,
)
from ldap3.core.exceptions import LDAPCommunicationError, LDAPExceptionError

from policyd.lists.remote.settings import LdapPlace, LdapQuestion
from policyd.lists.remote.source import Question, SourceError

_MOST_CONNECTIONS: Final = 5
_KEY: Final = "{key}"
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.-_")
_SUCCESS, _TIME_LIMIT, _SIZE_LIMIT, _BUSY, _UNAVAILABLE = 0, 3, 4, 51, 52  # RFC 4511 section 4.1.9


class LdapSource:
    """A directory and its connections; nothing is opened before it is asked."""

    def __init__(self, place: LdapPlace) -> None:
        """Take a place whose URL has been checked (see config.remote)."""
        self._place = place
        self._idle: deque[Connection] = deque()
        self._closed = False
        self._threads = ThreadPoolExecutor(_MOST_CONNECTIONS, thread_name_prefix="ldap")

    async def ask(self, question: Question, keys: Sequence[str]) -> bool:
        """Tell whether a search finds an entry."""
        assert isinstance(question, LdapQuestion)
        loop = asyncio.get_running_loop()
        wanted = filter_of(question.filter, keys)
        return await loop.run_in_executor(self._threads, self._search, question.base, wanted)

    async def close(self) -> None:
        """Close idle connections; one in use ends with its thread."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._drop_idle()

    def _drop_idle(self) -> None:
        while (connection := self._take()) is not None:
            _drop(connection)

    def _take(self) -> Connection | None:
        """Take an idle connection; threads do so at the same time."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _search(self, base: str, wanted: str) -> bool:
        """Search on an idle connection, or on a new one if those were closed since their use."""
        try:
            while (connection := self._take()) is not None:
                try:
                    return self._on(connection, base, wanted)
                except LDAPCommunicationError as error:
                    if isinstance(error, TimeoutError):
                        raise
            return self._on(self._opened(), base, wanted)
        except LDAPExceptionError as error:
            raise SourceError(_first_line(error), down=True) from error

    def _opened(self) -> Connection:
        place = self._place
        seconds = math.ceil(place.timeout)
        server = Server(
            place.url,
            get_info=NONE,
            connect_timeout=seconds,
            tls=Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=place.ca_file or None),
        )
        connection = Connection(
            server,
            place.bind_dn or None,
            place.password or None,
            auto_bind=AUTO_BIND_NONE,
            read_only=True,
            check_names=False,
            auto_referrals=False,
            receive_timeout=seconds,
        )
        try:
            self._log_in(connection)
        except (LDAPExceptionError, SourceError):
            _drop(connection)
            raise
        return connection

    def _log_in(self, connection: Connection) -> None:
        place = self._place
        connection.open(read_server_info=False)
        starts_tls = place.tls and not place.url.startswith("ldaps:")
        if starts_tls and not connection.start_tls(read_server_info=False):
            # the password goes nowhere without it
            raise SourceError(f"no TLS: {_said(connection.result)}", down=True)
        if not connection.bind(read_server_info=False):
            raise SourceError(_said(connection.result), down=True)

    def _on(self, connection: Connection, base: str, wanted: str) -> bool:
        """Search, and keep the connection if it is still good."""
        try:
            connection.search(
                base,
                wanted,
                SUBTREE,
                attributes=[NO_ATTRIBUTES],
                size_limit=1,
                time_limit=math.ceil(self._place.timeout),
            )
        except LDAPExceptionError:
            _drop(connection)
            raise
        result, response = connection.result, connection.response or ()
        self._idle.append(connection)
        if self._closed:  # meanwhile
            self._drop_idle()
        code = result["result"]
        if code not in (_SUCCESS, _SIZE_LIMIT):
            raise SourceError(_said(result), down=code in (_TIME_LIMIT, _BUSY, _UNAVAILABLE))
        return any(each["type"] == "searchResEntry" for each in response)


def filter_of(template: str, keys: Sequence[str]) -> str:
    """Put keys into a filter's `{key}`, several as alternatives (RFC 4515 section 3)."""
    filters = [template.replace(_KEY, escaped(key)) for key in keys]
    return filters[0] if len(filters) == 1 else f"(|{''.join(filters)})"


def escaped(key: str) -> str:
    r"""Write a key as a value of a filter: any octet may be `\xx` (RFC 4515 section 3)."""
    octets = key.encode()
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in octets)


def _drop(connection: Connection) -> None:
    with contextlib.suppress(LDAPExceptionError, OSError):
        connection.strategy.close()
    if connection.socket is not None:  # one that was never connected is not closed by that
        connection.socket.close()


def _said(result: Mapping[str, Any]) -> str:
    """Give the words of a result, the server's own behind those of its code."""
    return ": ".join(filter(None, (result["description"], result["message"])))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
