"""keepalivectl monitor: what the daemon logs, as it comes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keepaliveD.cli import monitor


def test_configuration_to_paste_stands_below_the_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*_: object) -> Iterator[dict[str, Any]]:
        yield {"priority": 4, "message": 'it ended, configure:\n[[path]]\nname = "a\x1b"'}
        yield {"priority": 6, "message": ""}

    monkeypatch.setattr(monitor, "listen", said)
    monitor.monitor(argparse.Namespace(), Path("/"))
    lines = re.sub("..:..:..", "12:00:00", capsys.readouterr().out).splitlines()
    assert lines == [
        "12:00:00 warning: it ended, configure:",
        "         [[path]]",
        '         name = "a\\x1b"',
        "12:00:00 ",
    ]
