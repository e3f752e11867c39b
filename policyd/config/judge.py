"""What is wrong or doubtful in tables that are each right in themselves."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from policyd.config.dns import judge_dns
from policyd.config.gather import Part
from policyd.config.greylist import judge_greylist
from policyd.config.model import LONGEST_WAIT, MOST_SERVERS, Config
from policyd.config.owners import Claims, claimed_twice
from policyd.config.problem import Problem
from policyd.config.state import judge_state
from policyd.smtp.stage import FrontEnd, Stage

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
    yield from _open_to_others(config, parts)
    yield from _few_connections(config, parts)
    yield from _long_waits(config, parts)
    yield from _nothing_to_stamp(parts, claimed)
    if "state" in parts:
        yield from judge_state(config, parts["state"])
    if "dns" in parts:
        yield from judge_dns(config, parts["dns"])
    if "greylist" in parts:
        yield from judge_greylist(config.greylist, parts["greylist"])


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
    policy = config.policy_service
    if policy is None or policy.allow is None:
        return
    if not any(endpoint.startswith("inet:") for endpoint in policy.listen):
        what = "allow is for TCP, and [policy_service] listens on unix sockets alone"
        yield _problem(parts["policy_service"], ("allow",), what, "leave it out", error=False)


def _open_to_others(config: Config, parts: Mapping[str, Part]) -> Iterator[Problem]:
    """Warn of a front end that every host may connect to; libmilter has no list of its own."""
    policy, milter = config.policy_service, config.milter
    for index, endpoint in enumerate(() if policy is None or policy.allow else policy.listen):
        if _reaches_beyond(endpoint):
            what = f"{endpoint} may be reached from other hosts, and all of them may ask"
            mend = 'name the networks of your Postfix: allow = ["192.0.2.0/24"]'
            at = ("listen", index)
            yield _problem(parts["policy_service"], at, what, mend, error=False)
    for index, endpoint in enumerate(() if milter is None else milter.listen):
        if _reaches_beyond(endpoint):
            what = (
                f"{endpoint} may be reached from other hosts, and libmilter, which accepts by "
                "itself, has no list of who may connect"
            )
            mend = "listen on a unix socket, or let a packet filter pass only your Postfix"
            yield _problem(parts["milter"], ("listen", index), what, mend, error=False)


def _reaches_beyond(endpoint: str) -> bool:
    """Tell whether an endpoint is TCP and not known to be loopback; no name is looked up."""
    if not endpoint.startswith("inet:"):
        return False
    host = endpoint.removeprefix("inet:").rpartition(":")[0].strip("[]")
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host.lower() != "localhost"  # RFC 6761 section 6.3


def _few_connections(config: Config, parts: Mapping[str, Part]) -> Iterator[Problem]:
    for name in TABLE_OF.values():
        table = config.policy_service if name == "policy_service" else config.milter
        if table is not None and table.max_connections < MOST_SERVERS:
            what = (
                f"max_connections: Postfix runs up to {MOST_SERVERS} smtpd(8) by default, "
                "each with a connection of its own"
            )
            mend = f"write at least {MOST_SERVERS}, or as many as default_process_limit says"
            yield _problem(parts[name], ("max_connections",), what, mend, error=False)


def _long_waits(config: Config, parts: Mapping[str, Part]) -> Iterator[Problem]:
    for name, longest in LONGEST_WAIT.items():
        if name in parts and config.server.decision_timeout >= longest:
            what = (
                f"decision_timeout: Postfix waits {longest:.0f} s for [{name}] by default, "
                "then goes on without"
            )
            mend = "write a shorter time"
            yield _problem(parts["server"], ("decision_timeout",), what, mend, error=False)


def _nothing_to_stamp(parts: Mapping[str, Part], claimed: Claims) -> Iterator[Problem]:
    """Refuse results that nobody writes: only the milter at end-of-data changes a message."""
    part = parts.get("authentication")
    if part is None or Stage.END_OF_DATA in claimed.get(FrontEnd.MILTER, ()):
        return
    if FrontEnd.MILTER in claimed:
        what = "the milter writes it at end-of-data, a stage that [milter] does not decide"
        yield _problem(part, (), what, "add end-of-data to the stages of [milter]")
    else:
        what = "the milter writes it, and there is no [milter]"
        mend = 'write [milter] with listen = ["unix:/var/spool/postfix/policyd/milter.sock"]'
        yield _problem(part, (), what, mend)


def _problem(
    part: Part, path: tuple[str | int, ...], what: str, mend: str, *, error: bool = True
) -> Problem:
    line = part.line(*path)
    return Problem(part.document.shown, line, "", what, mend, "error" if error else "warning")
