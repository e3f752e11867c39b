"""
The scripts that a server of Redis or Valkey runs (EVALSHA), each an operation or a part of one.

They are in Lua 5.1 beside this module; library.lua stands at the beginning of each.
"""

import hashlib
from importlib.resources import files
from typing import Final

import msgspec


class Script(msgspec.Struct, frozen=True):
    """A script and its digest, by which a server that has run it before knows it."""

    text: str
    digest: str


def _script(name: str) -> Script:
    folder = files(__package__) / "scripts"
    text = (folder / "library.lua").read_text("utf-8") + (folder / name).read_text("utf-8")
    # what EVALSHA goes by; nothing is kept secret with it
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(text, digest)


GREYLIST: Final = _script("greylist.lua")
RESERVE: Final = _script("reserve.lua")
NOTE: Final = _script("note.lua")
GIVE_BACK: Final = _script("give_back.lua")
REFUND: Final = _script("refund.lua")
SETTLE: Final = _script("settle.lua")
CREDIT: Final = _script("credit.lua")
PUT: Final = _script("put.lua")
EXPIRE: Final = _script("expire.lua")
TALLY: Final = _script("tally.lua")
