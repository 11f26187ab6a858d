"""This process as the daemon's surroundings: clock, signals, service manager, files."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from pathlib import Path

from keepaliveD.config import Config, load
from keepaliveD.daemon import signals
from keepaliveD.daemon.notify import Manager, watchdog_period

HANDOVER = "handover"  # a file in systemd's RuntimeDirectory=; packages make it when they upgrade
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # a firewall's clock runs on while this host sleeps


class Process:
    """The real thing."""

    def __init__(self, config: Path | None) -> None:
        self._config = config
        self._manager = Manager()
        self.watchdog = watchdog_period()

    def now(self) -> float:
        """Return seconds that never go back, those in which the machine was suspended included."""
        return time.clock_gettime(CLOCK)

    def slept(self) -> float:
        """Return the seconds in which the machine was suspended since it booted, as far as the clocks tell."""
        return round(time.clock_gettime(CLOCK) - time.clock_gettime(time.CLOCK_MONOTONIC), 1)

    def wait(self, seconds: float) -> signal.Signals | None:
        """Return the next signal, or None once the time is over."""
        return signals.wait(seconds)

    def notify(self, *assignments: str) -> None:
        """Send these to the service manager."""
        self._manager.notify(*assignments)

    def reloading(self) -> None:
        """Tell the service manager that a reload begins; it compares the instant with when it asked for one."""
        self._manager.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def load(self) -> Config:
        """Read the configuration again."""
        return load(self._config)

    def handing_over(self) -> bool:
        """Return whether whoever stops us has said that a successor takes the settings over at once."""
        directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        try:
            return bool(directory) and (Path(directory) / HANDOVER).exists()
        except OSError:
            return False  # too long a name, or a directory that may not be searched


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as may be: each network namespace takes some."""
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
