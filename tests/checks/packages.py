"""Packages with checks, as pip would leave them, for tests."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    folder: Path, name: str, module: str, points: Mapping[str, str], version: str = "1.0"
) -> None:
    """Put a distribution into a folder: one module, named as it is, and its entry points."""
    imported = name.replace("-", "_")
    (folder / f"{imported}.py").write_text(module)
    info = folder / f"{imported}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = "".join(f"{point} = {imported}:{what}\n" for point, what in points.items())
    (info / "entry_points.txt").write_text(f"[policyd.checks]\n{lines}")
    sys.modules.pop(imported, None)


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what install() put there found, here and in processes that are started."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
