"""Metrics over a board with one worker, as tests count by them and read them back."""

from prometheus_client import CollectorRegistry

from policyd.observe.board import Board
from policyd.observe.metrics import Metrics
from policyd.observe.series import Series, map_row


def registry_of(board: Board) -> CollectorRegistry:
    """What exposes a board alone."""
    registry = CollectorRegistry()
    registry.register(board.collector)
    return registry


class Counted(Metrics):
    """Counts in the row of a board's only worker; `registry` exposes the board."""

    def __init__(self, series: Series) -> None:
        self.board = Board(1)
        layout = self.board.lay_out(series)
        super().__init__(layout, map_row(self.board.descriptor(0), layout))
        self.registry = registry_of(self.board)

    def lay_out(self, series: Series) -> None:
        """Move on to the series of another policy."""
        layout = self.board.lay_out(series)
        self.move(layout, map_row(self.board.descriptor(0), layout))
