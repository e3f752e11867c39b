"""The demonstration as a user runs it, and that no verdict is missing from it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from policyd.rules.outcome import parse
from policyd.smtp.decision import Verdict
from tools.demo.samples import SAMPLES

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "tools.demo")
RULES = (ROOT / "tools" / "demo" / "rules.toml").read_text()


def test_there_is_a_rule_of_every_verdict() -> None:
    outcomes = re.findall(r'^then\s*=\s*"(.*)"$', RULES, re.MULTILINE)
    assert {parse(outcome).verdict for outcome in outcomes} == set(Verdict)


def test_every_rule_answers_a_sample() -> None:
    names = set(re.findall(r'^name\s*=\s*"(.*)"$', RULES, re.MULTILINE))
    answering = {rule for sample in SAMPLES for rule in (*sample.rules, *sample.shadow)}
    assert names - answering == {"points-for-address", "points-for-sender"}  # rules that only score


@pytest.mark.integration
def test_every_sample_goes_as_expected() -> None:
    done = subprocess.run([*DEMO, "--once"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SAMPLES)} sample mails, all as expected." in done.stdout


@pytest.mark.integration
def test_it_runs_until_it_is_interrupted() -> None:
    with subprocess.Popen(DEMO, cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("To try by hand:"):
                break
        assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, rest
    assert "both servers are stopped" in rest
