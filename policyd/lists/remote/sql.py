"""
Lists in SQL databases, through SQLAlchemy's asyncio API: PostgreSQL, MySQL and MariaDB, SQLite.

The keys go to the server as bind parameters and are never part of the query's text.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, TextClause, bindparam, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from policyd.lists.remote.settings import SqlPlace, SqlQuestion
from policyd.lists.remote.source import Question, SourceError

_DRIVERS: Final = {
    "postgresql": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "sqlite": "sqlite+aiosqlite",
}
_MOST_CONNECTIONS: Final = 5
_SQLITE_REOPENED: Final = 1
"""Seconds after which a SQLite file is opened anew: it may have been replaced by another."""


_PATIENCE: Final = 0.8
"""How much of a list's timeout SQLite may take: cancelled, it would go on in its thread."""
_LAST_WORDS: Final = 0.05
"""Seconds in which aiosqlite's threads, also of a file that could not be opened, tell the loop."""


class SqlSource:
    """A database and its pool of connections; nothing is opened before it is asked."""

    def __init__(self, place: SqlPlace) -> None:
        """Take a place whose URL has been checked (see config.remote)."""
        self._engine = _engine(place)
        # Of SQLite's errors these are all of its file: locked, damaged, without the table. MySQL's
        # can be of a key that the column's character set lacks.
        self._down: tuple[type[Exception], ...] = (OperationalError,) if _is_file(place) else ()
        self._patience = _PATIENCE * place.timeout if _is_file(place) else 0.0
        self._queries: dict[str, TextClause] = {}

    async def ask(self, question: Question, keys: Sequence[str]) -> bool:
        """
        Tell whether the query gives a row whose first column is neither NULL, false nor 0.

        So `SELECT 1`, `SELECT EXISTS (...)` and `SELECT count(*)` all say what they seem to.
        """
        assert isinstance(question, SqlQuestion)
        query = self._queries.get(question.query)
        if query is None:
            query = text(question.query).bindparams(bindparam("keys", expanding=True))
            self._queries[question.query] = query
        try:
            return await self._run(query, keys)
        except _LostError:  # a pooled connection, closed by the server since its last use
            try:
                return await self._run(query, keys)
            except _LostError as error:
                raise SourceError(str(error), down=True) from error

    async def _run(self, query: TextClause, keys: Sequence[str]) -> bool:
        try:
            connection = await self._engine.connect()
        except (SQLAlchemyError, OSError) as error:
            raise SourceError(_first_line(error), down=True) from error
        end: asyncio.TimerHandle | None = None
        try:
            if self._patience:
                end = await _interrupted_after(self._patience, connection)
            rows = await connection.execute(query, {"keys": list(keys)})
            return any(row[0] not in (None, 0) for row in rows)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _LostError(_first_line(error)) from error
            down = isinstance(error, self._down)
            raise SourceError(_first_line(error), down=down) from error
        except SQLAlchemyError as error:
            raise SourceError(_first_line(error), down=False) from error
        finally:
            if end is not None:
                end.cancel()
            await connection.close()

    async def close(self) -> None:
        """Close the pool."""
        await self._engine.dispose()
        if self._patience:
            await asyncio.sleep(_LAST_WORDS)


class _LostError(Exception):
    """The connection was lost, as it can be after a server's restart."""


def _is_file(place: SqlPlace) -> bool:
    return place.url.startswith("sqlite:")


async def _interrupted_after(seconds: float, connection: AsyncConnection) -> asyncio.TimerHandle:
    """Have SQLite end what it is at after a while (sqlite3_interrupt(), sqlite.org/c3ref)."""
    loop = asyncio.get_running_loop()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    return loop.call_later(seconds, lambda: loop.create_task(driver.interrupt()))


def _first_line(error: Exception) -> str:
    """Give the driver's own words, without SQLAlchemy's, which name the query's parameters."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(cause).partition("\n")[0] or type(cause).__name__


def _engine(place: SqlPlace) -> AsyncEngine:
    return create_async_engine(
        _url(place),
        isolation_level="AUTOCOMMIT",  # a look-up is one statement: no BEGIN, no ROLLBACK
        pool_size=_MOST_CONNECTIONS,
        max_overflow=0,
        pool_timeout=place.timeout,
        pool_recycle=_SQLITE_REOPENED if _is_file(place) else -1,
        hide_parameters=True,
        connect_args=_connect_args(place),
    )


def _url(place: SqlPlace) -> URL:
    scheme, _, rest = place.url.partition(":")
    if scheme == "sqlite":
        # mode=ro: a file that is not there is an error, and not made (sqlite.org/uri.html)
        return URL.create(
            _DRIVERS[scheme], database=f"file:{quote(rest)}", query={"mode": "ro", "uri": "true"}
        )
    url = make_url(place.url).set(drivername=_DRIVERS[scheme])
    return url.set(password=place.password) if place.password else url


def _connect_args(place: SqlPlace) -> dict[str, Any]:
    if _is_file(place):
        return {"timeout": _PATIENCE * place.timeout}
    if not place.tls:
        return {}
    return {"ssl": ssl.create_default_context(cafile=place.ca_file or None)}
