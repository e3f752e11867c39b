"""What a request wants decided: its protocol_state, and what policy_context says beside it."""

from functools import lru_cache
from typing import Final

import msgspec

from policyd.protocol.delegation.errors import ProtocolError, Reason, shown
from policyd.protocol.delegation.requests import Request
from policyd.protocol.postfix.rewriting import usual_list
from policyd.smtp.stage import TRANSACTION, RestrictionList, Stage


class Asked(msgspec.Struct, frozen=True):
    """
    What a request wants decided.

    `stage` is the protocol_state's, or, if `alone`, the one that policy_context names: that stage
    and no earlier one. `restriction` is the list that asks.
    """

    stage: Stage
    alone: bool
    restriction: RestrictionList


_PLAIN: Final = {stage: Asked(stage, False, usual_list(stage)) for stage in Stage}
_POSITION: Final = {stage: position for position, stage in enumerate(TRANSACTION)}
_STAGES: Final = frozenset(Stage)
_LISTS: Final = frozenset(RestrictionList)
_OUTSIDE: Final = frozenset({Stage.VRFY, Stage.ETRN})


def read_context(request: Request) -> Asked | ProtocolError:
    """
    Read policy_context: `stage=`, `list=` and `service=`, separated by `;`.

    `service` becomes an attribute, what is none of the three stays `policy_context`. An unknown
    state, stage or list, and a stage that the transaction has not reached, are given back as a
    ProtocolError. VRFY and ETRN stay what they are, whatever stage the context names.
    """
    context = request.attributes.get("policy_context", "")
    if "=" not in context:
        said = _NOTHING
    else:
        said = _parse_context(context) if len(context) <= _CACHED else _read_pairs(context)
        request.attributes["policy_context"] = said.rest
    request.attributes["service"] = said.service
    stage = request.stage
    if stage is None:
        return ProtocolError(Reason.UNKNOWN_STATE, f"protocol_state {shown(request.state)}")
    if said is _NOTHING:
        return _PLAIN[stage]
    if said.error is not None:
        return said.error
    asked = said.stage
    if asked is not None and stage not in _OUTSIDE and _is_later(asked, stage):
        return ProtocolError(Reason.LATER_STAGE, f"stage={asked} of a request at {request.state}")
    deciding = asked if asked is not None and stage not in _OUTSIDE else stage
    return Asked(deciding, asked is not None, said.restriction or usual_list(deciding))


def _is_later(asked: Stage, reached: Stage) -> bool:
    return asked in _OUTSIDE or _POSITION[asked] > _POSITION[reached]


class _Context(msgspec.Struct, frozen=True):
    """What a policy_context says."""

    stage: Stage | None = None
    restriction: RestrictionList | None = None
    service: str = ""
    rest: str = ""
    error: ProtocolError | None = None


_NOTHING: Final = _Context()
_CACHED: Final = 512  # main.cf has few contexts and short ones; a peer may send any


def _read_pairs(context: str) -> _Context:
    stage: str | None = None
    restriction: str | None = None
    service = ""
    rest = []
    for part in context.split(";"):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if equals and key == "service":
            service = value
        elif equals and key == "stage":
            stage = value.lower()
        elif equals and key == "list":
            restriction = value.lower()
        elif part.strip():
            rest.append(part)
    said = _Context(service=service, rest=";".join(rest).strip())
    if stage is not None and stage not in _STAGES:
        error = ProtocolError(Reason.UNKNOWN_STAGE, f"stage={shown(stage)} in policy_context")
        return msgspec.structs.replace(said, error=error)
    if restriction is not None and restriction not in _LISTS:
        error = ProtocolError(Reason.UNKNOWN_LIST, f"list={shown(restriction)} in policy_context")
        return msgspec.structs.replace(said, error=error)
    return msgspec.structs.replace(
        said,
        stage=None if stage is None else Stage(stage),
        restriction=None if restriction is None else RestrictionList(restriction),
    )


_parse_context: Final = lru_cache(maxsize=256)(_read_pairs)
