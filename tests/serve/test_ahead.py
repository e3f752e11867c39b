"""What is made ready before mail waits: helpers that have imported what their work needs."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from policyd.checks.builtin import Configured, declared
from policyd.config.policy import load_policy
from policyd.mail.stamping import Method
from policyd.rules.policy import Policy
from policyd.serve import ahead
from policyd.serve.asked import Asked

MILTER = """
[milter]
listen = ["inet:127.0.0.1:10041"]
stages = ["end-of-data"]
"""


def helpers(policy: Policy) -> tuple[int, int]:
    """Count the processes for brief and for heavy work that a policy has started."""

    async def main() -> tuple[int, int]:
        asked = Asked()
        ahead.make_ready(asked, policy)
        try:
            return len(asked.brief._processes), len(asked.heavy._processes)
        finally:
            await asked.close()

    return asyncio.run(main())


def policy_of(folder: Path, text: str) -> Policy:
    file = folder / "policyd.toml"
    file.write_text(text)
    return load_policy(file).policy_in_force


@pytest.mark.parametrize(
    ("stage", "when", "found"),
    [
        ("rcpt", "recipient == 'a@b.example'", (0, 0)),
        ("rcpt", "resolves(sender_domain)", (0, 0)),
        ("rcpt", "spf() == 'fail'", (1, 0)),
        ("helo", "spf_helo() == 'fail'", (1, 0)),
        ("end-of-data", "dkim() == 'fail'", (0, 2)),
        ("end-of-data", "'virus' in header('Subject') and arc() == 'fail'", (0, 2)),
        ("end-of-data", "dmarc() == 'reject'", (1, 2)),
    ],
)
def test_a_policy_has_the_helpers_that_its_checks_need(
    tmp_path: Path, stage: str, when: str, found: tuple[int, int]
) -> None:
    rule = f'[[rule]]\nname = "r"\nstage = "{stage}"\nwhen = "{when}"\nthen = "refused"\n'
    listen = '[policy_service]\nlisten = ["inet:127.0.0.1:10040"]\n'
    assert helpers(policy_of(tmp_path, listen + MILTER + rule)) == found


@pytest.mark.parametrize(
    ("results", "received_spf", "found"),
    [
        ([], "false", (0, 0)),
        ([], "true", (1, 0)),
        (["iprev", "auth"], "false", (0, 0)),
        (["arc"], "false", (0, 2)),
        (["dmarc"], "false", (1, 2)),
    ],
)
def test_so_do_the_results_that_it_writes(
    tmp_path: Path, results: list[str], received_spf: str, found: tuple[int, int]
) -> None:
    text = f"[authentication]\nresults = {results}\nreceived_spf = {received_spf}\n"
    policy = policy_of(tmp_path, MILTER + text)
    assert helpers(policy) == found
    assert helpers(dataclasses.replace(policy, stamping=None)) == (0, 0)


def test_the_checks_it_knows_are_there() -> None:
    named = ahead.SPF | ahead.SIGNATURES | ahead.CONTENT | ahead.SUFFIXES
    assert named <= declared(Configured()).keys()
    assert {"spf", "dkim", "dmarc", "arc"} <= set(map(str, Method)) & named
