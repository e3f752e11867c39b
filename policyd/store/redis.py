"""From the place of a Redis or Valkey to a store in it."""

from policyd.store.interface import Store
from policyd.store.place import Kind, read_place
from policyd.store.redis_client import client_of
from policyd.store.redis_cluster import ClusterStore
from policyd.store.redis_server import RedisStore


def redis_store(
    url: str,
    *,
    timeout: float,
    prefix: str,
    username: str = "",
    password: str = "",
    ca_file: str = "",
) -> Store:
    """
    Make a store for a url as of place.read_place; it connects at its first operation.

    `timeout` bounds each command, in seconds, and all keys begin with `prefix`. With TLS,
    `ca_file` holds the certificates of whom to trust, empty for the system's. ValueError for a url
    of no such form or a prefix with braces in it, OSError for a `ca_file` that cannot be read.
    """
    place = read_place(url)
    if not place.remote:
        raise ValueError(f"{place.kind}: is no place in Redis")
    servers = client_of(
        place,
        timeout=timeout,
        username=username or place.username,
        password=password or place.password,
        ca_file=ca_file,
    )
    kind = ClusterStore if place.kind is Kind.CLUSTER else RedisStore
    return kind(servers, prefix)
