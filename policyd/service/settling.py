"""The end of what messages reserved: spent where a message is accepted, else given back."""

from collections.abc import Awaitable, Callable, Iterable

from policyd.checks.interface import CheckFailedError
from policyd.checks.settling import Ends, Settles
from policyd.facts.table import Attributes
from policyd.rules.policy import Policy
from policyd.smtp.stage import FrontEnd
from policyd.store.model import StoreError


class Settling:
    """
    Settles, and lets no answer fail for it: what is not settled counts as spent after an hour.

    `settles` is None where nothing keeps state. `failed` is told why something was not settled.
    """

    def __init__(self, failed: Callable[[str], object]) -> None:
        """Start without a store."""
        self.settles: Settles | None = None
        self._failed = failed

    def ends(self, policy: Policy, front_end: FrontEnd) -> Ends | None:
        """Tell by what a front end that sees the end of messages ends them; None if it need not."""
        reserving = policy.reserving
        if self.settles is None or not reserving:
            return None
        if front_end is FrontEnd.MILTER:
            return Ends(FrontEnd.MILTER in reserving, FrontEnd.POLICY in reserving)
        return Ends(by_instance=True, by_connection=False) if front_end in reserving else None

    async def settle(self, attributes: Attributes, ends: Ends, *, accepted: bool) -> None:
        """End a message that has its answer."""
        if self.settles is not None:
            await self._try(self.settles.settle(attributes, ends, accepted=accepted))

    async def abandon(self, attributes: Attributes, ends: Ends, at: float) -> None:
        """End a message that ended early, at `at` seconds since the epoch."""
        if self.settles is not None:
            await self._try(self.settles.abandon(attributes, ends, at))

    async def give_back(self, taken: Iterable[Callable[[], Awaitable[None]]]) -> None:
        """Give back what the checks of one request took."""
        for each in taken:
            await self._try(each())

    async def _try(self, ending: Awaitable[None]) -> None:
        try:
            await ending
        except (StoreError, CheckFailedError, TimeoutError) as error:
            self._failed(str(error))
