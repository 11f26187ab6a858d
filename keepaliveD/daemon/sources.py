"""Where events come from, other than the worker and the clock.

A further source is a class like Signals, which Process gets among its `sources`: the loop waits for its descriptor,
and hands its events to the decider.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from keepaliveD.daemon import signals
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.events import Event, Reload, Stop

HANDOVER = "handover"  # a file in systemd's RuntimeDirectory=; packages make it when they upgrade
AT_ONCE = 600.0  # seconds in which an upgrade goes on from there: an older file is of one that failed


class Awaited(Protocol):
    """Something to wait for."""

    def fileno(self) -> int:
        """Return the descriptor that can be read once there is something; -1 where there is none to wait for now."""

    def due(self) -> float:
        """Return the instant at which there may be something although it cannot be read; FOREVER for never."""


class EventSource(Awaited, Protocol):
    """Something that events come from."""

    def events(self) -> Iterable[Event]:
        """Return what has happened since the last time. Waits for nothing, and raises nothing."""


class Signals:
    """The signals that the daemon handles."""

    def fileno(self) -> int:
        """Return the descriptor that can be read once a signal was caught."""
        return signals.events().fileno()

    def due(self) -> float:
        """Return that signals are never due."""
        return FOREVER

    def events(self) -> Iterable[Event]:
        """Return an event for each kind of signal that was caught: of many reloads, one is to be done."""
        caught = signals.caught()
        if signals.RELOAD in caught:
            yield Reload()
        if caught & signals.STOP:
            yield Stop(handing_over())


def handing_over() -> bool:
    """Return whether a successor takes the settings over at once, as whoever stops us has just said."""
    directory = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    try:
        return bool(directory) and time.time() - (Path(directory) / HANDOVER).lstat().st_mtime < AT_ONCE
    except OSError:
        return False  # too long a name, or a directory that may not be searched
