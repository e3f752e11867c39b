"""[greylist] is what greylisted() is asked with."""

from pathlib import Path

import pytest

from policyd.checks.greylist import GreylistSettings
from policyd.config.greylist import greylist_settings
from policyd.config.load import load
from policyd.config.model import Config
from policyd.store.model import Terms


def settings(directory: Path, text: str) -> GreylistSettings:
    file = directory / "policyd.toml"
    file.write_text(f'[policy_service]\nlisten = ["inet:127.0.0.1:10040"]\n[greylist]\n{text}')
    loaded = load(file)
    assert list(map(str, loaded.problems)) == []
    return greylist_settings(loaded.model)


def test_the_defaults_of_the_table_are_those_of_the_check(tmp_path: Path) -> None:
    assert greylist_settings(Config()) == GreylistSettings()
    assert settings(tmp_path, "") == GreylistSettings()


def test_every_key_arrives(tmp_path: Path) -> None:
    text = """
        delay = "1m"
        retry_window = "1d12h"
        lifetime = "8w"
        client_prefix = { ipv4 = 32, ipv6 = 48 }
        auto_allow_after = 0
    """
    terms = Terms(60_000, 129_600_000, 4_838_400_000, auto_allow_after=0)
    assert settings(tmp_path, text) == GreylistSettings(terms, ipv4=32, ipv6=48)


@pytest.mark.parametrize(
    ("prefix", "ipv4", "ipv6"),
    [("{}", 24, 64), ("{ ipv4 = 8 }", 8, 64), ("{ ipv6 = 128 }", 24, 128)],
)
def test_a_length_that_is_left_out_is_the_default(
    tmp_path: Path, prefix: str, ipv4: int, ipv6: int
) -> None:
    found = settings(tmp_path, f"client_prefix = {prefix}")
    assert (found.ipv4, found.ipv6) == (ipv4, ipv6)
