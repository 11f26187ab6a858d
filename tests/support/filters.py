"""The system calls that the unit allows."""

from __future__ import annotations

import subprocess
from pathlib import Path

SYSTEMD = Path(__file__).parents[2] / "systemd"


def allowed(*files: str) -> set[str]:
    """By the unit with these drop-ins; what @default has is always allowed."""
    calls = _named("@default")
    for file in ("tcp-keepalived.service", *files):
        for line in (SYSTEMD / file).read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key == "SystemCallFilter" and value.startswith("~"):
                calls -= _all(value[1:])
            elif key == "SystemCallFilter":
                calls |= _all(value)
    return calls


def _all(words: str) -> set[str]:
    return {call for word in words.split() for call in _named(word)}


def _named(word: str) -> set[str]:
    """What is meant by a word of SystemCallFilter=, systemd.exec(5)."""
    if not word.startswith("@"):
        return {word}
    command = ("systemd-analyze", "--no-pager", "syscall-filter", word)
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    return _all(" ".join(line for line in lines if not line.strip().startswith("#")))
