"""Whether the name servers that are asked answer at all."""

import asyncio
from collections.abc import Callable
from typing import Final

from policyd.dns.answer import DEPENDENCY

IN_A_ROW: Final = 3
"""Questions in a row that nobody answers before a server is asked what it knows by itself."""
AGAIN: Final = 5.0
"""Seconds after which a server that did not answer is asked that again."""
_NUMBERS: Final = 255

Changed = Callable[[str, bool, str], object]


class Health:
    """
    Tells when the name servers stop answering, and when they begin again.

    A question without an answer tells little: its zone's own servers may be silent. So after some
    in a row, `probe(name)` asks for a name that a resolver answers without asking others, a reverse
    name of the loopback (RFC 6303 section 4.2), each time another: nobody has kept it.
    """

    def __init__(self, changed: Changed, probe: Callable[[str], None]) -> None:
        """`changed(dependency, up, why)` is told when it is first known, and of changes."""
        self._changed = changed
        self._probe = probe
        self._up: bool | None = None
        self._unanswered = 0
        self._probing = ""
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def answered(self) -> None:
        """Take note that a server has said something, whatever it was."""
        self._unanswered = 0
        self.close()
        self._tell(up=True)

    def unanswered(self) -> None:
        """Take note of a question that no server answered in time."""
        self._unanswered += 1
        if self._unanswered >= IN_A_ROW and not self._probing and self._timer is None:
            self._ask()

    def probed(self, name: str, why: str) -> None:
        """Take note of a probe for a name: that it was answered, else `why` not."""
        if name != self._probing:
            return
        self._probing = ""
        if not why:
            self.answered()
            return
        self._tell(up=False, why=why)
        self._timer = asyncio.get_running_loop().call_later(AGAIN, self._ask)

    def close(self) -> None:
        """Ask no more, and wait for no probe."""
        self._probing = ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self) -> None:
        self._timer = None
        self._number = self._number % _NUMBERS + 1
        self._probing = f"{self._number}.0.0.127.in-addr.arpa"
        self._probe(self._probing)

    def _tell(self, *, up: bool, why: str = "") -> None:
        if self._up is not up:
            self._up = up
            self._changed(DEPENDENCY, up, why)
