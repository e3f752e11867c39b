"""Configurations whose state lives in the different stores, for `policyd state` to look at."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner, Result

from policyd.cli import main
from policyd.serve.state_port import StatePort
from policyd.store.memory import MemoryStore
from policyd.store.model import Entry
from policyd.store.portable import header, line, read
from tools.redis_servers import RedisServer

CONFIGURATION: Final = """
[server]
workers = 1
[policy_service]
listen = ["unix:/nowhere/policy.sock"]
[state]
url = "{url}"
[greylist]
delay = "1h"
auto_allow_after = 3
[limits.per_login]
key = "sasl_username"
rate = "2000 recipients per 1h"
[[rule]]
name = "limit"
stage = "rcpt"
when = "greylisted() or exceeds('per_login')"
then = "450 4.7.1 Later"
"""


class Place:
    """A configuration; run() runs a command of `policyd state` on it."""

    def __init__(self, directory: Path, url: str) -> None:
        self.url = url
        self.configuration = directory / "policyd.toml"
        self.configuration.write_text(CONFIGURATION.format(url=url))

    def run(self, *arguments: str, given: str | bytes = "") -> Result:
        command, *rest = arguments
        return CliRunner().invoke(
            main, ["state", command, "-c", str(self.configuration), *rest], input=given
        )

    def fine(self, *arguments: str, given: str | bytes = "") -> str:
        result = self.run(*arguments, given=given)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.fine(*arguments, "--json"))

    def holds(self, *entries: Entry) -> None:
        """Have nothing but these entries in the store."""
        self.fine("purge", "--all", "--yes")
        self.fine("import", "-", given=header(0) + "".join(map(line, entries)))

    def entries(self) -> list[Entry]:
        """Give what is in the store."""
        return list(read(self.fine("export").encode().splitlines()))


@contextmanager
def memory(directory: Path) -> Iterator[Place]:
    """State in the memory of a process that serves it: this one, on another thread."""
    place = Place(directory, "memory:")
    loop = asyncio.new_event_loop()
    listener = StatePort(place.configuration, MemoryStore())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(listener.start(), loop).result()
        yield place
    finally:
        asyncio.run_coroutine_threadsafe(_ended(listener), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended(listener: StatePort) -> None:
    listener.stop()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))


@contextmanager
def sqlite(directory: Path) -> Iterator[Place]:
    """State in a file."""
    yield Place(directory, f"sqlite:{directory / 'state.sqlite'}")


@contextmanager
def redis(directory: Path) -> Iterator[Place]:
    """State in a Redis of its own."""
    with RedisServer(directory / "redis") as server:
        yield Place(directory, server.url)


PLACES: Final[dict[str, Any]] = {"memory": memory, "redis": redis, "sqlite": sqlite}


def opened(name: str, directory: Path) -> AbstractContextManager[Place]:
    """Give a place by its name."""
    context: AbstractContextManager[Place] = PLACES[name](directory)
    return context
