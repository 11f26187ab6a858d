"""What the tests of finding a daemon share."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.records import locks as listing


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A daemon that answers below a root, with the process of the test; its command line is yet to be written there."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    (tmp_path / "run/tcp-keepalived").mkdir(parents=True)
    (tmp_path / f"proc/{os.getpid()}").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "run/tcp-keepalived/control"))
        daemon.listen()
        yield tmp_path


@pytest.fixture
def very_many_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory; the time is over before all that /proc/locks says below the root is read."""
    monkeypatch.setattr(listing, "PATIENCE", 0.0)
    (tmp_path / "proc").mkdir(exist_ok=True)
    (tmp_path / "proc/locks").write_text("1: POSIX  ADVISORY  WRITE 812 00:01:4 0 1\n" * 10_000)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/lock").touch()
    return tmp_path / "state"
