"""How the document writes tables and bars. Pure."""

from collections.abc import Sequence

from tools.campaign.bars import Bar


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table; floats with one digit, integers with commas."""
    lines = [head, ["---"] * len(head), *(list(map(_cell, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def judgement(bars: Sequence[Bar]) -> str:
    """Say which bars are not held."""
    missed = [told(bar) for bar in bars if not bar.held]
    return "**Not held:** " + "; ".join(missed) + "." if missed else "All bars are held."


def told(bar: Bar) -> str:
    """Write a bar and its figure."""
    return f"{bar.what}: {bar.figure}"
