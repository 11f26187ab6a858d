"""This process as the daemon's surroundings: clock, signals, service manager, files."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from keepaliveD import signals
from keepaliveD.config import Config, load
from keepaliveD.notify import notify, watchdog_period

HANDOVER = "handover"  # a file in systemd's RuntimeDirectory=; packages make it when they upgrade


class Process:
    """The real thing."""

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self.watchdog = watchdog_period()

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def wait(self, seconds: float) -> signal.Signals | None:
        """The next signal, or None once the time is over."""
        return signals.wait(seconds)

    def notify(self, *assignments: str) -> None:
        """Tell the service manager."""
        notify(*assignments)

    def load(self) -> Config:
        """Read the configuration again."""
        return load(self._config)

    def handing_over(self) -> bool:
        """Whether whoever stops us has said that a successor takes the settings over at once."""
        directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        return bool(directory) and (Path(directory) / HANDOVER).exists()
