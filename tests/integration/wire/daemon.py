"""policyd itself, run as a user runs it, with the matrix for its rules."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from policyd.smtp.decision import Verdict
from policyd.smtp.stage import TRANSACTION, FrontEnd, Stage
from tests.integration.wire.cells import STAGES, Cell
from tests.integration.wire.tap import Pair
from tools.policyd_process import PolicydProcess, free_port


def configuration(front_end: FrontEnd, cells: Iterable[Cell], endpoint: str, metrics: int) -> str:
    """Write a policyd.toml in which `front_end` alone decides, one rule a stage and outcome."""
    table = "milter" if front_end is FrontEnd.MILTER else "policy_service"
    stages = TRANSACTION if front_end is FrontEnd.MILTER else STAGES
    head = f"""
[{table}]
listen = ["{endpoint}"]
socket_mode = "0666"
stages = [{", ".join(f'"{stage}"' for stage in stages)}]

[metrics]
listen = "127.0.0.1:{metrics}"

[log]
format = "json"
"""
    return head + "".join(dict.fromkeys(map(rule, cells)))


def rule(cell: Cell) -> str:
    """Write the rule that decides a cell."""
    whole = cell.stage is Stage.RCPT and cell.outcome.verdict in (Verdict.DISCARD, Verdict.HOLD)
    return f"""
[[rule]]
name = "{cell.rule}"
stage = "{cell.stage}"
when = "client_address == '{cell.address}'"
then = "{cell.outcome.then}"
{"whole_message = true" if whole else ""}
"""


class Policyd(PolicydProcess):
    """`policyd serve` with one front end and the matrix for its rules."""

    def __init__(self, directory: Path, front_end: FrontEnd, cells: Iterable[Cell]) -> None:
        self.socket = directory / f"{front_end}.sock"
        self.front_end = front_end
        port = free_port()
        file = directory / f"{front_end}.toml"
        file.write_text(configuration(front_end, cells, f"unix:{self.socket}", port))
        super().__init__(file, f"127.0.0.1:{port}")

    def replies(self) -> Counter[Pair]:
        """Add up policyd_replies_total by pair, as scraped now."""
        counted: Counter[Pair] = Counter()
        for labels, value in self.samples("policyd_replies_total").items():
            named = dict(labels)
            assert named["frontend"] == self.front_end
            counted[named["code"], named["enhanced"]] += round(value)
        return +counted

    def logged(self) -> Counter[Pair]:
        """Count the decisions in the log by pair."""
        return Counter(
            (line.get("code", ""), line.get("enhanced", "")) for line in self.decisions()
        )
