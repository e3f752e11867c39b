"""
Keys and values of a store in Redis.

A key is the prefix, a letter for its kind, and what it is about; what is to be changed together on
Cluster has the same text in braces, which alone decides on the slot (Redis Cluster specification,
"Hash tags"). Texts are quoted, so that no brace of a sender's ends it. Values are MessagePack,
which the scripts read too.

    t:{client}sender␟recipient    a triplet
    c:{client}                    a client
    a:{account}                   an account
    m:{bucket}instance            what a message reserved
    u:{bucket}                    until when messages are to be settled, a sorted set
    n:{connection}                the newest message of a connection
    h:{account}instance           on Cluster: what a message reserved in an account
    p:{number}                    written to find out whether that can be done
"""

import re
import zlib
from typing import Final

import msgspec

from policyd.store.model import Account, Client, Entry, Triplet

_SPECIAL: Final = re.compile("[%{}\ud800-\udfff]")
_QUOTED: Final = re.compile("%([0-9a-f]{4})")
_EMPTY: Final = "%"
"""An empty text in braces, since empty braces are no hash tag."""
_KIND: Final = {Triplet: "t", Client: "c", Account: "a"}


def quoted(text: str) -> str:
    """Quote what has a meaning in a key, and what UTF-8 cannot write (lone surrogates)."""
    return _SPECIAL.sub(lambda found: f"%{ord(found[0]):04x}", text)


def plain(text: str) -> str:
    """Give the text that quoted() was given."""
    return _QUOTED.sub(lambda found: chr(int(found[1], 16)), text)


class Keys:
    """
    The keys of one store. `prefix` is what all of them begin with; it has no braces.

    Records of messages and their times are spread over so many `buckets`, each of one slot.
    """

    def __init__(self, prefix: str, buckets: int) -> None:
        if "{" in prefix or "}" in prefix:
            raise ValueError("the prefix of keys has braces, which decide on slots of a Cluster")
        prefix.encode()  # ValueError here rather than at each key
        self.prefix: Final = prefix
        self.unsettled: Final = [f"{prefix}u:{{{bucket}}}" for bucket in range(buckets)]

    def triplet(self, client: str, sender: str, recipient: str) -> str:
        """Name a triplet."""
        sender = quoted(sender).replace("\x1f", "%001f")
        return f"{self._of('t', client)}{sender}\x1f{quoted(recipient)}"

    def client(self, client: str) -> str:
        """Name a client."""
        return self._of("c", client)

    def account(self, name: str) -> str:
        """Name an account."""
        return self._of("a", name)

    def held(self, account: str, instance: str) -> str:
        """Name what a message has reserved in the account of that key."""
        return f"{self.prefix}h{account[len(self.prefix) + 1 :]}{quoted(instance)}"

    def record(self, instance: str) -> tuple[str, str]:
        """Name what a message reserved, and the sorted set of when it is to be settled."""
        text = quoted(instance)
        bucket = zlib.crc32(text.encode()) % len(self.unsettled)
        return f"{self.prefix}m:{{{bucket}}}{text}", self.unsettled[bucket]

    def newest(self, connection: str) -> str:
        """Name the newest message of a connection."""
        return self._of("n", connection)

    def probe(self, number: int) -> str:
        """Name one of many keys that may be written to find out whether that can be done."""
        return self._of("p", str(number))

    def pattern(self, kinds: str) -> str:
        """Give the glob-style pattern (SCAN) of keys of some kinds."""
        prefix = re.sub(r"([*?\[\]\\^-])", r"\\\1", self.prefix)
        return f"{prefix}[{kinds}]:{{*"

    def of_entry(self, entry: Entry) -> str:
        """Name an entry."""
        match entry:
            case Triplet():
                return self.triplet(entry.client, entry.sender, entry.recipient)
            case Client():
                return self.client(entry.client)
            case Account():
                return self.account(entry.name)

    def entry(self, key: bytes, value: bytes) -> Entry:
        """Make an entry of its key and value; ValueError if they are none."""
        kind, _, rest = key.decode()[len(self.prefix) :].partition(":{")
        tag, _, rest = rest.partition("}")
        name = plain(tag.removesuffix(_EMPTY))
        match kind:
            case "t":
                sender, _, recipient = rest.partition("\x1f")
                return triplet(name, plain(sender), plain(recipient), value)
            case "c":
                return client(name, value)
            case "a":
                return account(name, value)
        raise ValueError(f"a key of no known kind: {key!r}")

    def _of(self, kind: str, text: str) -> str:
        return f"{self.prefix}{kind}:{{{quoted(text) or _EMPTY}}}"


def tag(key: str) -> str:
    """Give the text by which a key is put into a slot."""
    return key.partition("{")[2].partition("}")[0]


class _Triplet(msgspec.Struct, array_like=True):
    first: int
    last: int
    passed: bool
    expires: int
    instance: str


class _Client(msgspec.Struct, array_like=True):
    successes: int
    allowed: bool
    last: int
    expires: int
    by_hand: bool
    instance: str


class _Account(msgspec.Struct, array_like=True):
    window: int
    parts: list[int]
    level: float
    at: int
    expires: int


packed: Final = msgspec.msgpack.Encoder().encode
_triplet: Final = msgspec.msgpack.Decoder(_Triplet).decode
_client: Final = msgspec.msgpack.Decoder(_Client).decode
_account: Final = msgspec.msgpack.Decoder(_Account).decode


def kind_of(entry: Entry) -> str:
    """Give the letter of an entry's kind."""
    return _KIND[type(entry)]


def value_of(entry: Entry) -> bytes:
    """Write the value of an entry."""
    match entry:
        case Triplet():
            return packed(
                _Triplet(
                    entry.first, entry.last, entry.passed, entry.expires, quoted(entry.instance)
                )
            )
        case Client():
            return packed(
                _Client(
                    entry.successes,
                    entry.allowed,
                    entry.last,
                    entry.expires,
                    entry.by_hand,
                    quoted(entry.instance),
                )
            )
        case Account():
            parts = [number for part in sorted(entry.parts.items()) for number in part]
            return packed(_Account(entry.window, parts, entry.level, entry.at, entry.expires))


def triplet(client_: str, sender: str, recipient: str, value: bytes) -> Triplet:
    """Read the value of a triplet."""
    kept = _triplet(value)
    return Triplet(
        client_,
        sender,
        recipient,
        kept.first,
        kept.last,
        passed=kept.passed,
        expires=kept.expires,
        instance=plain(kept.instance),
    )


def client(name: str, value: bytes) -> Client:
    """Read the value of a client."""
    kept = _client(value)
    return Client(
        name,
        kept.successes,
        allowed=kept.allowed,
        last=kept.last,
        expires=kept.expires,
        by_hand=kept.by_hand,
        instance=plain(kept.instance),
    )


def account(name: str, value: bytes) -> Account:
    """Read the value of an account."""
    kept = _account(value)
    parts = dict(zip(kept.parts[::2], kept.parts[1::2], strict=True))
    return Account(name, kept.window, parts, kept.level, kept.at, kept.expires)
