"""The published test suite for RFC 7208 (openspf.org, release 2014.04), all of whose cases pass."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import pytest

from policyd.checks.spf import SenderPolicy
from policyd.mail.spf import Identity
from tests.mail.spf_running import Threads
from tests.mail.spf_zones import ZoneData, scenarios

DEFAULT: Final = "DEFAULT"
"""What the suite expects where the policy gives no explanation."""
EVERY: Final = scenarios()


@pytest.mark.parametrize(
    ("scenario", "case"),
    [
        pytest.param(scenario, case, id=name)
        for scenario in EVERY
        for name, case in scenario["tests"].items()
    ],
)
def test_a_case_has_the_result_that_is_preferred(
    scenario: Mapping[str, Any], case: Mapping[str, Any]
) -> None:
    policy = SenderPolicy(Threads(ZoneData(scenario["zonedata"])))
    facts = {
        "client_address": case["host"],
        "helo_name": case["helo"],
        "sender": case["mailfrom"] or "",
    }
    found = asyncio.run(policy.evaluate(facts, Identity.MAIL_FROM))
    wanted = case["result"] if isinstance(case["result"], list) else [case["result"]]
    assert found.result == wanted[0], found.reason
    if "explanation" in case:
        assert (found.explanation or DEFAULT) == case["explanation"]


def test_they_are_all_there() -> None:
    assert sum(len(scenario["tests"]) for scenario in EVERY) == 203
