"""From what `[state]` says to a store."""

from pathlib import Path

from policyd.store.interface import Store
from policyd.store.memory import MemoryStore
from policyd.store.place import Kind, StateSettings, read_place
from policyd.store.redis import redis_store
from policyd.store.sqlite import SqliteStore

__all__ = ["StateSettings", "open_store"]


def open_store(settings: StateSettings) -> Store:
    """
    Make the store; files and connections are opened by its first operation, so none is down here.

    A user and a password in the url hold where the settings have none. ValueError for a url of no
    known form, OSError for a `ca_file` that cannot be read.
    """
    place = read_place(settings.url)
    match place.kind:
        case Kind.MEMORY:
            return MemoryStore()
        case Kind.SQLITE:
            return SqliteStore(Path(place.path), timeout=settings.timeout)
    return redis_store(
        place.url,
        timeout=settings.timeout,
        prefix=settings.prefix,
        username=settings.username or place.username,
        password=settings.password or place.password,
        ca_file=settings.ca_file,
    )
