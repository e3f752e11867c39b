"""Lists that are sets in Redis or Valkey."""

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 -- redis's own; ours is not used here
    RedisError,
    TimeoutError,  # noqa: A004 -- likewise
)

from policyd.lists.remote.settings import RedisPlace, RedisQuestion
from policyd.lists.remote.source import Question, SourceError

_MOST_CONNECTIONS: Final = 5


class RedisSource:
    """A server and its pool of connections; nothing is opened before it is asked."""

    def __init__(self, place: RedisPlace) -> None:
        """Take a place whose URL has been checked (see config.remote)."""
        options: dict[str, Any] = {"password": place.password} if place.password else {}
        url = place.url
        if place.tls or url.startswith("rediss:"):
            url = "rediss:" + url.partition(":")[2]
            options |= {"ssl_ca_certs": place.ca_file} if place.ca_file else {}
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MOST_CONNECTIONS,
            timeout=place.timeout,
            socket_timeout=place.timeout,
            socket_connect_timeout=place.timeout,
            retry=Retry(NoBackoff(), 1),  # a connection may have been closed since its last use
            **options,
        )
        self._client = Redis.from_pool(pool)

    async def ask(self, question: Question, keys: Sequence[str]) -> bool:
        """
        Tell whether a set has any of the keys.

        A set that is not there is an error, like a file that was emptied: were a lost set taken for
        an empty one, every mailbox of it would be unknown.
        """
        assert isinstance(question, RedisQuestion)
        pipeline = self._client.pipeline(transaction=False)
        pipeline.exists(question.set)
        for key in keys:
            pipeline.sismember(question.set, key)
        try:
            there, *members = await pipeline.execute()
        except (ConnectionError, TimeoutError, BusyLoadingError, OSError) as error:
            raise SourceError(_words(error), down=True) from error
        except RedisError as error:
            raise SourceError(_words(error), down=isinstance(error, AuthenticationError)) from error
        if not there:
            why = f"there is no set {question.set}; keep a member in one that is meant to be empty"
            raise SourceError(why, down=False)
        return any(members)

    async def close(self) -> None:
        """Close the pool."""
        await self._client.aclose()


def _words(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
