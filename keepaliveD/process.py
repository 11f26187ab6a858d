"""This process as the daemon's surroundings: clock, signals, service manager, files."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from keepaliveD.config import Config, load
from keepaliveD.daemon import RELOAD, STOP
from keepaliveD.notify import notify, watchdog_period

SIGNALS = STOP | {RELOAD}


class Process:
    """The real thing. From its making on, signals come only out of wait()."""

    def __init__(self, config: Path | None) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._config = config
        self.watchdog = watchdog_period()

    def now(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def wait(self, seconds: float) -> signal.Signals | None:
        """The next signal, or None once the time is over."""
        caught = signal.sigtimedwait(SIGNALS, seconds)
        return signal.Signals(caught.si_signo) if caught else None

    def notify(self, *assignments: str) -> None:
        """Tell the service manager."""
        notify(*assignments)

    def load(self) -> Config:
        """Read the configuration again."""
        return load(self._config)
