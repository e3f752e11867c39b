"""Places in a row: each series has its own, and those that are given up are taken again."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from policyd.observe.series import Family, Labels, Series


class Places:
    """
    Says where each series stands, in doubles from the row's start.

    A place is taken again by a series of the same width, so a row has for each width as many
    places as were ever taken at one time, and never more.
    """

    def __init__(self) -> None:
        """Begin with an empty row."""
        self._taken: Final[dict[Family, dict[Labels, int]]] = {}
        self._free: Final[defaultdict[int, list[int]]] = defaultdict(list)
        self.size = 0
        """Doubles up to the end of the last place."""

    def of(self, family: Family) -> Mapping[Labels, int]:
        """Give the places of a family's series, in the order in which they were taken."""
        return self._taken.get(family, {})

    def size_with(self, series: Series) -> int:
        """
        Give the size that take() will need.

        ValueError for labels that are not their family's, and for a family of a name that another
        one has, such as that of another version of policyd.
        """
        known = {family.name: family for family in self._taken}
        missing: defaultdict[int, int] = defaultdict(int)
        for family, label_sets in series.items():
            if known.get(family.name, family) != family:
                raise ValueError(f"{family.name} is declared in two ways")
            for labels in label_sets:
                if len(labels) != len(family.labels):
                    raise ValueError(f"{family.name} has the labels {family.labels}, not {labels}")
            missing[family.width] += len(set(label_sets) - self.of(family).keys())
        return self.size + sum(
            width * max(0, count - len(self._free[width])) for width, count in missing.items()
        )

    def take(self, series: Series) -> Iterator[tuple[int, int]]:
        """Give a place to each series that has none; yields it and its width as it does."""
        for family, label_sets in series.items():
            places, width = self._taken.setdefault(family, {}), family.width
            for labels in label_sets:
                if labels not in places:
                    place = places[labels] = self._next(width)
                    yield place, width

    def give_up(self, leaving: Iterable[tuple[Family, Labels]]) -> None:
        """Let the places of series be taken again."""
        for family, labels in leaving:
            self._free[family.width].append(self._taken[family].pop(labels))

    def __iter__(self) -> Iterator[tuple[Family, Labels, int]]:
        """Give every series with its place."""
        for family, places in self._taken.items():
            for labels, place in places.items():
                yield family, labels, place

    def _next(self, width: int) -> int:
        free = self._free[width]
        if free:
            return free.pop()
        place = self.size
        self.size += width
        return place
