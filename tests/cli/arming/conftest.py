"""A desk for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.cli.arming import arm, disarm, results
from keepaliveD.cli.targets import targets
from keepaliveD.config import files
from tests.cli.arming.desk import Desk
from tests.support.fakes import here


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    desk = Desk(tmp_path, capsys)
    for command in (arm, disarm):
        monkeypatch.setattr(command, "detect", desk.platform)
        monkeypatch.setattr(command, "in_worker", here)
    monkeypatch.setattr(results, "open_journal", lambda: desk.journal.append)
    monkeypatch.setattr(files, "DEFAULT_FILE", tmp_path / "nothing-installed/config.toml")
    monkeypatch.setattr(targets, "PROC", tmp_path / "no-process-of-this-machine")
    return desk
