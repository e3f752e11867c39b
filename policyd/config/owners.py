"""Which front end decides which stage, and what cannot be in that."""

from collections.abc import Iterator, Mapping
from typing import Final

from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage

ALONE: Final[Mapping[FrontEnd, tuple[Stage, ...]]] = {
    FrontEnd.POLICY: tuple(Stage),
    FrontEnd.MILTER: TRANSACTION,
}
"""What a front end decides when it is the only one and its table names no stages."""

TOGETHER: Final[Mapping[FrontEnd, tuple[Stage, ...]]] = {
    FrontEnd.POLICY: tuple(stage for stage in Stage if stage is not Stage.END_OF_DATA),
    FrontEnd.MILTER: (Stage.END_OF_DATA,),
}
"""What each decides beside the other when its table names no stages."""


Claims = Mapping[FrontEnd, tuple[Stage, ...]]
"""The stages that each configured front end decides."""


def claims(named: Mapping[FrontEnd, tuple[Stage, ...] | None]) -> Claims:
    """
    Give the stages of each configured front end from those that its table names.

    No stage stands for the default; None, where they cannot be read, for all the other leaves.
    """
    defaults = TOGETHER if len(named) > 1 else ALONE
    claimed = {
        front_end: tuple(stage for stage in stages if stage in ALONE[front_end])
        or defaults[front_end]
        for front_end, stages in named.items()
        if stages is not None
    }
    taken = {stage for stages in claimed.values() for stage in stages}
    for front_end in named.keys() - claimed.keys():
        claimed[front_end] = tuple(s for s in ALONE[front_end] if s not in taken)
        taken.update(claimed[front_end])
    return claimed


def owners(claimed: Claims) -> Mapping[Stage, FrontEnd]:
    """Give the one front end that decides each stage, in the order of the stages."""
    owned = {stage: front_end for front_end, stages in claimed.items() for stage in stages}
    return {stage: owned[stage] for stage in Stage if stage in owned}


def claimed_twice(claimed: Claims) -> Iterator[Stage]:
    """Give the stages that both front ends would decide."""
    both = set.intersection(*map(set, claimed.values())) if len(claimed) > 1 else set()
    return (stage for stage in Stage if stage in both)
