"""The ends of connections as a source of events: seen by the platform, and handed to the decider a second later."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable

from keepaliveD.model.deaths import Deaths
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.events import Died, Event
from keepaliveD.platforms.base import DeathReader, DeathWatch

PAUSE = 0.1  # seconds between two readings, at least: many ends that come at once cost one
NOTHING = -1  # no descriptor is waited for


class DeathSource:
    """Sees ends from begin() to end(), and rests for PAUSE seconds after each reading."""

    def __init__(self, watch: Callable[[DeathWatch], DeathReader], now: Callable[[], float]) -> None:
        self._watch = watch
        self._now = now
        self._reader: DeathReader | None = None
        self._watching = DeathWatch()  # what the reader was opened for
        self._rests_until = -FOREVER
        self._left: list[Deaths] = []  # what a reader that is closed had not returned yet

    def fileno(self) -> int:
        """Return the descriptor that can be read once connections have ended; -1 where none is to be waited for."""
        return NOTHING if self._reader is None or self._now() < self._rests_until else self._reader.fileno()

    def due(self) -> float:
        """Return the instant at which there may be events, or the descriptor counts again."""
        if self._left:
            return -FOREVER
        if self._reader is None:
            return FOREVER
        if self._now() < self._rests_until:
            return self._rests_until
        ripe = self._reader.due()
        return FOREVER if ripe is None else ripe

    def events(self) -> Iterable[Event]:
        """Return the connections that ended a second ago or earlier."""
        while self._left:
            yield Died(self._left.pop(0))
        now, reader = self._now(), self._reader
        if reader is None or now < self._rests_until:
            return
        if now < self.due() and not select.select([reader], [], [], 0)[0]:
            return
        self._rests_until = now + PAUSE
        deaths = reader.take(now)
        if _tells(deaths):
            yield Died(deaths)

    def begin(self, watch: DeathWatch) -> str:
        """See ends in this way from now on; return what cannot be seen and why, or "".

        Raises Refusal where none can be seen; then what was seen before still is.
        """
        if self._reader is None or watch != self._watching:
            reader = self._watch(watch)
            self.end()
            self._reader, self._watching, self._rests_until = reader, watch, -FOREVER
        return self._reader.hindered

    def end(self) -> None:
        """See nothing any more; what was seen until now are the last events."""
        if self._reader is not None:
            last = self._reader.take(self._now(), early=True)
            self._left += [last] if _tells(last) else []
            self.close()

    def close(self) -> None:
        """Close everything that is open."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _tells(deaths: Deaths) -> bool:
    """Return whether anything has ended."""
    return bool(len(deaths.ended) or deaths.ordinary or deaths.lost)
