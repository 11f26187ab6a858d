"""What a worker hung at, and is not to touch again for a while: with growing pauses."""

from __future__ import annotations

from dataclasses import dataclass

from keepaliveD.platforms.touching import Kind, Touchable

PAUSE, LONGEST_PAUSE = 10.0, 3600.0  # seconds, doubled each time
MOST = 4096


@dataclass(frozen=True, slots=True)
class _Pause:
    until: float
    seconds: float


class Avoided:
    """Namespaces, processes and sockets that hung. Instants are seconds."""

    def __init__(self) -> None:
        self._pauses: dict[Touchable, _Pause] = {}

    def add(self, what: Touchable, now: float) -> float:
        """Leave this out from now on; return for how many seconds."""
        before = self._pauses.pop(what, None)
        pause = min(LONGEST_PAUSE, 2 * before.seconds) if before else PAUSE
        if what[0] is Kind.NOTHING:
            return 0.0  # nothing tells what that was
        while len(self._pauses) >= MOST:
            del self._pauses[next(iter(self._pauses))]
        self._pauses[what] = _Pause(now + pause, pause)
        return pause

    def at(self, now: float) -> frozenset[Touchable]:
        """Return what is not to be touched at this instant."""
        return frozenset(what for what, pause in self._pauses.items() if pause.until > now)
