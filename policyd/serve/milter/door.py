"""The one door and libmilter's connection, as a session sees them."""

from concurrent.futures import Future
from typing import Any, Protocol

from policyd.facts.table import Attributes
from policyd.rules.policy import Policy
from policyd.service import Answer
from policyd.service.stamping import Stamped
from policyd.smtp.stage import FrontEnd, Stage


class Service(Protocol):
    """What decides, counts and logs; called from libmilter's threads."""

    policy: Policy

    def decide_milter(self, stage: Stage, attributes: Attributes, policy: Policy) -> Answer:
        """Decide a stage under the policy that the session negotiated with."""
        ...

    def settle_milter(self, attributes: Attributes, policy: Policy) -> None:
        """Spend what a message reserved that no rule decides at its end; blocks."""
        ...

    def stamp_milter(self, attributes: Attributes, policy: Policy) -> Stamped:
        """Give what is written above an accepted message, and which of its fields go; blocks."""
        ...

    def abandon_milter(self, attributes: Attributes, policy: Policy) -> Future[None] | None:
        """Give back what a message reserved that ended early; None if there is nothing to do."""
        ...

    def fault_milter(self, stage: Stage, attributes: Attributes, error: BaseException) -> Answer:
        """Answer for a fault of the front end's own."""
        ...

    def written(self, answer: Answer) -> None:
        """Count and log an answer that is about to be given."""
        ...

    def protocol_error(self, front_end: FrontEnd, reason: str, **detail: object) -> None:
        """Count and log what went wrong with a peer."""
        ...


class Mta(Protocol):
    """
    pymilter's context, milter.Context, whose methods are called within a callback only.

    The garbage collector does not know it: whoever is its `priv` must not refer to it.
    """

    def getpriv(self) -> Any:
        """Give the object kept for the connection, or None."""
        ...

    def setpriv(self, value: object, /) -> Any:
        """Keep an object for the connection, and give the former."""
        ...

    def setsymlist(self, stage: int, macros: str, /) -> None:
        """Name the macros of a step; in the negotiation only."""
        ...

    def getsymval(self, sym: str, /) -> str | None:
        """Give a macro's value; UnicodeDecodeError if it is not UTF-8."""
        ...

    def setreply(self, rcode: str, xcode: str | None, message: str, /) -> None:
        """Set the reply that the status to be returned is given with."""
        ...

    def quarantine(self, reason: str, /) -> None:
        """Hold the message; at its end only, as what follows."""
        ...

    def addheader(self, field: str, value: str, idx: int = ..., /) -> None:
        """Insert a header before the one at that place."""
        ...

    def chgheader(self, field: str, idx: int, value: str, /) -> None:
        """Change the how manyth header of a name; an empty value deletes it."""
        ...

    def addrcpt(self, rcpt: str, params: str | None = ..., /) -> None:
        """Add a recipient."""
        ...

    def delrcpt(self, rcpt: str, /) -> None:
        """Delete a recipient."""
        ...
