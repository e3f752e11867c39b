"""policyd with SPF alone beside Debian's policyd-spf, and a resolver some ms away."""

import contextlib
import itertools
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import programs
from bench.authentication.plan import QUICK, Plan
from bench.authentication.results import Measured
from bench.authentication.zones import far_away, zones
from bench.contender import Contender, free_port
from bench.field import POLICYD, Field
from bench.report import Sample, rows
from bench.run import Cell, measure
from bench.state.plan import Say, circumstances
from tools.dns_servers import NameServer

REPEATED: Final = "policyd, answers kept"
FRESH: Final = "policyd, all asked anew"
FAR: Final = "policyd-spf"
NEAR: Final = "policyd-spf, name server beside it"

_CONNECTIONS: Final = (1, 20, 100)
_QUICK_CONNECTIONS: Final = (10,)
_PEER: Final = Path(__file__).with_name("policyd_spf")
_REQUESTS: Final = 1_000
"""Pairs of a client and a sender, which come again and again."""
_NUMBERS: Final = 1_000_000
"""More than are asked in a run; see policy_load.c, -i: each request is another message's."""
_SEED: Final = 5321
_KEPT: Final = 3600

_POLICY: Final = """\
[server]
workers = 1

[policy_service]
listen = ["{address}"]

[metrics]
listen = "127.0.0.1:{metrics}"

[log]
format = "json"

[dns]
servers = ["{dns}"]
most_at_once = 4096

[[rule]]
name  = "spf-fail"
stage = "rcpt"
when  = "spf() == 'fail'"
then  = "spf-fail"
"""
_PEER_SETTINGS: Final = """\
debugLevel = 0
TestOnly = 1
HELO_reject = No_Check
Mail_From_reject = Fail
PermError_reject = False
TempError_Defer = False
Header_Type = None
"""
"""As policyd is set up: MAIL FROM alone, no header, no log lines."""


def side_by_side(plan: Plan, say: Say) -> Measured:
    """Measure both."""
    built = programs.build()
    at_once = _QUICK_CONNECTIONS if plan == QUICK else _CONNECTIONS
    measured = circumstances(plan.rounds, plan.seconds)
    with _field(built, say, max(at_once)) as field:
        samples = _compete(field, at_once, plan)
        return Measured(measured, rows(samples), field.left_out)


@contextlib.contextmanager
def _field(built: dict[str, Path], say: Say, most: int) -> Iterator[Field]:
    """Start everything, with a name server each, so that nobody waits for another's questions."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        contextlib.ExitStack() as servers,
    ):
        folder = Path(scratch)
        field = Field(built, folder, programs.BUILD, say, [], [])

        numbers = itertools.count()

        def far(ttl: int) -> str:
            return servers.enter_context(far_away(folder / f"dns-{next(numbers)}", _zones(ttl)))

        try:
            _add_policyd(field, REPEATED, far(_KEPT))
            _add_policyd(field, FRESH, far(0))
            if Path("/usr/bin/policyd-spf").exists():
                near = servers.enter_context(NameServer(folder / "near", _zones(_KEPT)))
                _add_peer(field, FAR, far(0), most)
                _add_peer(field, NEAR, near.address, most)
            else:
                field.left_out.append("policyd-spf (not installed)")
            yield field
        finally:
            field.stop()


def _zones(ttl: int) -> dict[str, str]:
    return zones(ttl, "v=DKIM1")


def _add_policyd(field: Field, name: str, dns: str) -> None:
    address = f"inet:127.0.0.1:{free_port()}"
    file = field.scratch / f"{address.rpartition(':')[2]}.toml"
    file.write_text(_POLICY.format(address=address, metrics=free_port(), dns=dns))
    command = (str(POLICYD), "serve", "-c", str(file))
    field.add(Contender(name, command, address, field.stderr(name), null=REPEATED, policyd=True))


def _add_peer(field: Field, name: str, dns: str, most: int) -> None:
    """Start as many processes as there are connections, and one that is asked whether it is up."""
    settings = field.scratch / "policyd-spf.conf"
    settings.write_text(_PEER_SETTINGS)
    port = str(free_port())
    command = (sys.executable, str(_PEER), port, f"{most + 1}", dns, str(settings))
    field.add(Contender(name, command, f"inet:127.0.0.1:{port}", field.stderr(name), null=REPEATED))


def _compete(field: Field, at_once: tuple[int, ...], plan: Plan) -> list[Sample]:
    chance = random.Random(_SEED)
    program = field.programs["policy_load"]
    cells = [Cell(str(count), count, ("-d", f"{_REQUESTS}")) for count in at_once]
    turns = list(itertools.product(cells, field.running))
    numbers = itertools.count(_NUMBERS, _NUMBERS)

    def of_another_message(cell: Cell) -> Cell:
        options = (*cell.options, "-i", f"{next(numbers)}")
        return Cell(cell.name, cell.at_once, options)

    for running in field.running:
        measure(running, of_another_message(cells[-1]), program, plan.warm_up)
    samples: list[Sample] = []
    for round_ in range(1, plan.rounds + 1):
        field.say(f"round {round_} of {plan.rounds}")
        for cell, running in chance.sample(turns, len(turns)):
            samples.append(measure(running, of_another_message(cell), program, plan.seconds))
    order = [(cell.name, running.contender.name) for cell, running in turns]
    return sorted(samples, key=lambda sample: order.index((sample.cell, sample.contender)))
