"""A folder for configuration files, as the tests of this directory use it."""

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files by name, `policyd.toml` first, in the working directory; its relative path."""
    monkeypatch.chdir(tmp_path)

    def write_files(main: str, **others: str) -> Path:
        Path("policyd.toml").write_text(main, encoding="utf-8")
        for name, text in others.items():
            path = Path(name.replace("__", "/") + ".toml")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return Path("policyd.toml")

    return write_files
