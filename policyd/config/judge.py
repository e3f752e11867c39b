"""What is wrong or doubtful in tables that are each right in themselves."""

from collections.abc import Iterator, Mapping

from policyd.config.gather import Part
from policyd.config.model import LONGEST_WAIT, Config
from policyd.config.owners import Claims, claimed_twice
from policyd.config.problem import Problem
from policyd.smtp.stage import FrontEnd

TABLE_OF = {FrontEnd.POLICY: "policy_service", FrontEnd.MILTER: "milter"}
"""The table that configures a front end."""


def judge(
    config: Config,
    parts: Mapping[str, Part],
    claimed: Claims,
    main: str,
) -> Iterator[Problem]:
    """Give the problems; `parts` are the tables that there are, `main` is the main file's name."""
    if not claimed:
        what = "neither [policy_service] nor [milter] is there, so nothing would be decided"
        mend = 'write [policy_service] with listen = ["inet:127.0.0.1:10040"]'
        yield Problem(main, 1, "", what, mend)
    yield from _stages_claimed_twice(parts, claimed)
    yield from _endpoints_named_twice(config, parts)
    yield from _options_of_no_socket(config, parts)
    yield from _long_waits(config, parts)
    if "state" in parts:
        what = "no check that there is keeps state, so [state] is not used"
        yield _problem(parts["state"], (), what, "leave it out", error=False)


def _stages_claimed_twice(parts: Mapping[str, Part], claimed: Claims) -> Iterator[Problem]:
    both = list(claimed_twice(claimed))
    if not both:
        return
    unnamed = [table for table in TABLE_OF.values() if "stages" not in parts[table].values]
    policy, milter = parts["policy_service"], parts["milter"]
    at, other = (milter, policy) if "stages" in milter.values else (policy, milter)
    mend = (
        f"name the stages of [{unnamed[0]}] too, without these"
        if unnamed
        else "take it out of one of the two"
    )
    what = (
        f"{', '.join(both)} would be decided by both front ends, also by "
        f"[{other.at[0]}] in {other.document.shown}:{other.line('stages')}"
    )
    yield _problem(at, ("stages",), what, mend)


def _endpoints_named_twice(config: Config, parts: Mapping[str, Part]) -> Iterator[Problem]:
    seen: dict[str, Part] = {}
    for name in TABLE_OF.values():
        table = config.policy_service if name == "policy_service" else config.milter
        for index, endpoint in enumerate(() if table is None else table.listen):
            if endpoint in seen:
                what = f"{endpoint} is listened on already, by [{seen[endpoint].at[0]}]"
                mend = "give each front end a port or a path of its own"
                yield _problem(parts[name], ("listen", index), what, mend)
            seen.setdefault(endpoint, parts[name])
    if config.metrics is not None and f"inet:{config.metrics.listen}" in seen:
        first = seen[f"inet:{config.metrics.listen}"].at[0]
        what = f"{config.metrics.listen} is listened on already, by [{first}]"
        yield _problem(parts["metrics"], ("listen",), what, "give the metrics a port of their own")


def _options_of_no_socket(config: Config, parts: Mapping[str, Part]) -> Iterator[Problem]:
    for name in TABLE_OF.values():
        table = config.policy_service if name == "policy_service" else config.milter
        if table is None or any(endpoint.startswith("unix:") for endpoint in table.listen):
            continue
        for key in ("socket_mode", "socket_group"):
            if key in parts[name].values:
                what = f"{key} is for unix sockets, and [{name}] listens on none"
                yield _problem(parts[name], (key,), what, "leave it out", error=False)


def _long_waits(config: Config, parts: Mapping[str, Part]) -> Iterator[Problem]:
    for name, longest in LONGEST_WAIT.items():
        if name in parts and config.server.decision_timeout >= longest:
            what = (
                f"decision_timeout: Postfix waits {longest:.0f} s for [{name}] by default, "
                "then goes on without"
            )
            mend = "write a shorter time"
            yield _problem(parts["server"], ("decision_timeout",), what, mend, error=False)


def _problem(
    part: Part, path: tuple[str | int, ...], what: str, mend: str, *, error: bool = True
) -> Problem:
    line = part.line(*path)
    return Problem(part.document.shown, line, "", what, mend, "error" if error else "warning")
