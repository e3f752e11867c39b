"""What is in force: a configuration as built, in the form in which workers are given it."""

import pickle
from collections.abc import Sequence
from typing import Final

from policyd.config.dns import dns_settings
from policyd.config.model import Config
from policyd.config.outline import ListOutline, Outline
from policyd.lists.named import NamedList
from policyd.lists.source import Kind
from policyd.lists.written import written_out
from policyd.observe.board import Board
from policyd.processes.memory import kept, let_go
from policyd.serve.building import ListParts, ListReading, Product
from policyd.serve.messages import Take
from policyd.service import Settings


class Supply:
    """
    One generation of policy, with its lists as they are now and its places on the board.

    Holds descriptors until close(); workers have their own by then.
    """

    def __init__(self, product: Product, board: Board) -> None:
        """
        Lay the series of a building without errors out on the board.

        OSError when there is no memory, ValueError where the board has a family in another form.
        """
        building = product.building
        assert building.outline is not None
        assert building.series is not None
        assert product.policy is not None
        self.outline: Final[Outline] = building.outline
        self.lists: Final[dict[str, ListOutline]] = dict(building.outline.lists)
        """Its lists as they are now; those of the outline are as they were when it was built."""
        self.layout: Final = board.lay_out(building.series)
        self.generation: Final = self.layout.generation
        self._board: Final = board
        self._policy: Final = product.policy
        self._parts: Final[ListParts] = product.lists
        self._layout = kept(pickle.dumps(self.layout), "policyd-layout")

    def supplies(self, worker: int) -> tuple[Take, Sequence[int]]:
        """Give the message that has a worker decide by it, and its descriptors."""
        config = self.outline.config
        descriptors = [self._policy, self._layout, self._board.descriptor(worker - 1)]
        for parts in self._parts.values():
            descriptors += parts
        take = Take(
            self.generation,
            settings_of(config),
            config.server.drain_timeout,
            config.milter.max_connections if config.milter is not None else 0,
            tuple((name, len(parts)) for name, parts in self._parts.items()),
            dns_settings(config),
        )
        return take, descriptors

    def replace_list(self, reading: ListReading, parts: list[int]) -> None:
        """Take a list that was read again in the place of what it was."""
        name = reading.source.name
        self.lists[name] = ListOutline(reading.source, reading.signatures, reading.entries)
        let_go(self._parts[name])
        self._parts[name] = parts

    def close(self) -> None:
        """Let the descriptors go."""
        let_go([self._policy, self._layout])
        for parts in self._parts.values():
            let_go(parts)


def settings_of(config: Config) -> Settings:
    """Give what the configuration says about every decision."""
    return Settings(
        decision_timeout=config.server.decision_timeout,
        show_id=config.replies.show_id,
        utf8=config.replies.utf8,
        log_decisions=config.log.decisions,
    )


def allowed(config: Config) -> NamedList | None:
    """Give the networks that may connect over TCP; None for all."""
    service = config.policy_service
    if service is None or service.allow is None:
        return None
    return written_out(Kind.NETWORKS, map(str, service.allow), "")
