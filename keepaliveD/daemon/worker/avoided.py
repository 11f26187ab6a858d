"""Remember what workers hung at, and how long workers must not touch it: with growing pauses."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from keepaliveD.model.dataclass import dataclass
from keepaliveD.platforms.touching import Kind, Touchable

PAUSE, LONGEST_PAUSE = 10.0, 3600.0  # seconds, doubled each time
MOST = 4096


@dataclass(frozen=True, slots=True)
class _Pause:
    until: float
    seconds: float
    is_tried: bool = False  # again, since it was over


class Avoided:
    """Namespaces, processes and sockets at which a worker hung. Instants are seconds."""

    def __init__(self) -> None:
        self._pauses: dict[Touchable, _Pause] = {}

    def add(self, what: Touchable, now: float) -> float:
        """Avoid this from now on; return for how many seconds."""
        if what[0] is Kind.NOTHING:
            return 0.0  # the worker had not written down what it touched
        before = self._pauses.pop(what, None)
        recent = before if before and now <= before.until + LONGEST_PAUSE else None
        pause = min(LONGEST_PAUSE, 2 * recent.seconds) if recent else PAUSE
        while len(self._pauses) >= MOST:
            del self._pauses[next(iter(self._pauses))]
        self._pauses[what] = _Pause(now + pause, pause)
        return pause

    def at(self, now: float, *, again: bool = True) -> frozenset[Touchable]:
        """Return what workers must not touch at this instant; unless `again`, all that ever hung.

        Of namespaces whose pause is over, one is tried again at a time: each may hang once more.
        """
        if not again:
            return frozenset(self._pauses)
        over = [what for what, pause in self._pauses.items() if pause.until <= now]
        waiting = {what for what in over if what[0] is Kind.NAMESPACE and not self._pauses[what].is_tried}
        first = min(waiting, key=lambda what: self._pauses[what].until, default=None)
        return frozenset(self._pauses.keys() - (set(over) - waiting | {first}))

    def keep_namespaces(self, silent: Collection[int], now: float) -> None:
        """Learn which namespaces were not read. Of the other ones those are gone whose pause is not over.

        The rest was tried again, and has answered. Whoever hangs again within an hour is left out for twice as long.
        """
        for what, pause in list(self._pauses.items()):
            if what[0] is not Kind.NAMESPACE or what[1] in silent:
                continue
            if not pause.until <= now < pause.until + LONGEST_PAUSE:
                del self._pauses[what]
            elif not pause.is_tried:
                self._pauses[what] = dataclasses.replace(pause, is_tried=True)
