"""The ends of connections as a source of events: seen by the platform, and handed to the decider a second later."""

from __future__ import annotations

import dataclasses
import os
import select
from collections.abc import Callable, Iterable

from keepaliveD.model.deaths import Deaths
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.events import Died, Event
from keepaliveD.platforms.base import DeathReader, DeathWatch

PAUSE = 0.1  # seconds between two readings, at least: many ends that come at once cost one
READY = select.EPOLLIN | select.EPOLLONESHOT  # once, until it is asked for again


class DeathSource:
    """Sees ends from begin() to end(). Its descriptor can be read at most once in PAUSE seconds."""

    def __init__(self, watch: Callable[[DeathWatch], DeathReader], now: Callable[[], float]) -> None:
        self._watch = watch
        self._now = now
        self._epoll = select.epoll()
        self._reader: DeathReader | None = None
        self._watching = DeathWatch()  # what the reader was opened for
        self._own_namespace = 0  # to which what is seen is limited, 0 where it is not
        self._read_at = -FOREVER
        self._rests_until = FOREVER  # the instant at which the descriptor counts again, FOREVER where it does

    def fileno(self) -> int:
        """Return the descriptor that can be read once connections have ended."""
        return self._epoll.fileno()

    def due(self) -> float:
        """Return the instant at which there may be events, whether the descriptor can be read or not."""
        if self._reader is None:
            return FOREVER
        ripe = self._reader.due()
        return max(min(self._rests_until, FOREVER if ripe is None else ripe), self._read_at + PAUSE)

    def events(self) -> Iterable[Event]:
        """Return the connections that ended a second ago or earlier."""
        if self._reader is None:
            return
        now, ready = self._now(), bool(self._epoll.poll(0))
        if not ready and now < self.due():
            return
        self._read_at = now
        deaths = self._own(self._reader.take(now))
        if ready:
            self._rests_until = now + PAUSE
        elif now >= self._rests_until:
            self._rests_until = FOREVER
            self._epoll.modify(self._reader.fileno(), READY)
        if len(deaths.ended) or deaths.ordinary or deaths.lost:
            yield Died(deaths)

    def begin(self, watch: DeathWatch, *, all_namespaces: bool) -> str:
        """See ends in this way from now on; return what cannot be seen and why, or "".

        Raises Refusal where none can be seen; then what was seen before still is.
        """
        self._own_namespace = 0 if all_namespaces else os.stat("/proc/self/ns/net").st_ino
        if self._reader is None or watch != self._watching:
            reader = self._watch(watch)
            self.end()
            self._epoll.register(reader.fileno(), READY)
            self._reader, self._watching, self._rests_until = reader, watch, FOREVER
        return self._reader.hindered

    def end(self) -> None:
        """See nothing any more."""
        if self._reader is not None:
            self._epoll.unregister(self._reader.fileno())
            self._reader.close()
            self._reader = None

    def close(self) -> None:
        """Close everything that is open."""
        self.end()
        self._epoll.close()

    def _own(self, deaths: Deaths) -> Deaths:
        if not self._own_namespace:
            return deaths
        return dataclasses.replace(deaths, ended=deaths.ended[deaths.ended["netns"] == self._own_namespace])
