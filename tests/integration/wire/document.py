"""The matrix as a document: what the rule says, and what the client was told."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from policyd.smtp.decision import Verdict
from policyd.smtp.stage import Stage
from tests.integration.wire.cells import DOMAIN, Cell, Wiring, cells
from tests.integration.wire.dialogue import Said, Talk
from tests.integration.wire.effects import DELIVERED

_HEAD = """\
# What the client sees

Written by `tests/integration/test_wire_matrix.py`, which fails when it finds anything else;
`WRITE_MATRIX=1` makes it write this file anew. Postfix {version} asked policyd in each case below,
and a client took down each reply. Shown are the replies that differ from those of a session
without policyd, and what became of a message that was accepted and not delivered. The client goes
on after a refusal as far as it can: banner, EHLO, MAIL, one RCPT, DATA, end-of-data. Addresses
here stand for those of the run: the client is `unknown[192.0.2.1]`, says `EHLO client.test`,
sends from `sender@example.net` to `user@policyd.test`.

*One line* is a single `check_policy_service` in `smtpd_recipient_restrictions` (and one in
`smtpd_data_restrictions`, `smtpd_end_of_data_restrictions` and `smtpd_etrn_restrictions`, for the
stages that are never asked about elsewhere). *A line a list* stands in every list, with
`policy_context = stage=…;list=…`.
"""

_WIRINGS = {
    Wiring.ONE_LINE: "Policy delegation, one line",
    Wiring.A_LINE_A_LIST: "Policy delegation, a line a list",
    Wiring.MILTER: "Milter",
}

Table = tuple[str, ...]


def document(talks: Sequence[Talk], became: Mapping[Cell, str], version: str) -> str:
    """Write the document from what was seen."""
    seen = {talk.cell: [_shown(one, talk.cell) for one in talk.differing] for talk in talks}
    for cell, effect in became.items():
        if effect != DELIVERED:
            seen[cell].append(effect)
    parts = [_HEAD.format(version=version)]
    for stage in Stage:
        parts.append(f"\n## A rule for {stage}\n")
        for table, titles in _merged(_tables(stage, seen)).items():
            parts.append(f"\n### {'; '.join(titles)}\n\n")
            parts.append("| the rule says | what comes of it |\n|---|---|\n")
            parts.extend(f"{row}\n" for row in table)
    return "".join(parts)


def _tables(
    stage: Stage, seen: Mapping[Cell, Sequence[str]]
) -> Mapping[tuple[Wiring, bool], Table]:
    here = [cell for cell in cells() if cell.stage is stage]
    return {
        key: tuple(_row(cell, seen) for cell in group)
        for key, group in groupby(here, key=lambda cell: (cell.wiring, cell.delay_reject))
    }


def _merged(tables: Mapping[tuple[Wiring, bool], Table]) -> Mapping[Table, list[str]]:
    """Join the settings that make no difference, in the order in which they come."""
    settings: dict[Table, dict[Wiring, list[str]]] = {}
    for (wiring, delay_reject), table in tables.items():
        said = settings.setdefault(table, {}).setdefault(wiring, [])
        said.append("yes" if delay_reject else "no")
    return {
        table: [_title(wiring, values) for wiring, values in wirings.items()]
        for table, wirings in settings.items()
    }


def _title(wiring: Wiring, delay_reject: Sequence[str]) -> str:
    if len(delay_reject) == 2:
        return _WIRINGS[wiring]
    return f"{_WIRINGS[wiring]}, smtpd_delay_reject = {delay_reject[0]}"


def _row(cell: Cell, seen: Mapping[Cell, Sequence[str]]) -> str:
    if cell.refused_because:
        shown = f"refused when the file is loaded: {cell.refused_because}"
    elif cell.outcome.verdict in (Verdict.DISCARD, Verdict.HOLD) and not seen[cell]:
        shown = "nothing: Postfix asks before there is a message"
    else:
        shown = "<br>".join(seen[cell]) or "no objection"
    return f"| `{cell.outcome.then}` | {shown} |"


def _shown(said: Said, cell: Cell) -> str:
    reply = said.reply.replace(cell.recipient, f"user@{DOMAIN}").replace(cell.address, "192.0.2.1")
    lines = " ".join(f"`{line}`" for line in reply.split("\n"))
    return f"{said.step}: {lines}{', and the connection is closed' if said.closes else ''}"
