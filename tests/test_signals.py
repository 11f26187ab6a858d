"""Signals are waited for, and come one by one, on systems with sigtimedwait(2) and without."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, time
if sys.argv[1] == "without":
    del signal.sigtimedwait
from keepaliveD import signals
signals.block()
print(signals.wait(0.0), signals.wait(0.05))
os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGTERM)
print(sorted([signals.wait(60.0).name, signals.wait(60.0).name]))
start = time.monotonic()
print(signals.wait(0.2), 0.2 <= time.monotonic() - start < 30)
"""


@pytest.mark.parametrize("sigtimedwait", ["with", "without"])
def test_the_next_signal_comes_or_the_time_is_over(sigtimedwait: str) -> None:
    """macOS and OpenBSD have no sigtimedwait(2)."""
    command = [sys.executable, "-c", SCRIPT, sigtimedwait]
    run = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=60, check=False)
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["None None", "['SIGHUP', 'SIGTERM']", "None True"]
