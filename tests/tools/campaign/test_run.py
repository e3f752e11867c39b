"""Every campaign runs, quickly if asked to, and holds what does not hang on the machine's speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.campaign.__main__ import CAMPAIGNS

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_quick_campaign_holds_its_bars(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.campaign", "--quick", "--json", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[name]
