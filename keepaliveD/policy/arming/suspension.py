"""Suspend arming after a refusal, and try again: at the next scan if another try may succeed, else after pauses."""

from __future__ import annotations

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import span
from keepaliveD.model.errors import NotPermitted, Refusal, Unsupported

LASTING = (NotPermitted, Unsupported)  # refusals that another try mostly meets again
FIRST_PAUSE = 60.0  # seconds
LONGEST_PAUSE = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Suspension:
    """Arming is refused since an instant; it is tried again after `until`."""

    since: float  # seconds of the clock
    reason: str
    tried_at: float
    until: float
    pause: float

    def describe(self, now: float) -> str:
        """Return for how long and why, for people."""
        return f"arming suspended for {span(now - self.since)}: {self.reason}"


def refused(before: Suspension | None, refusal: Refusal, now: float) -> Suspension:
    """Return the suspension after one more refusal."""
    if before and before.tried_at == now:
        return before  # another action of the same scan
    since = before.since if before else now
    if not isinstance(refusal, LASTING):
        return Suspension(since, str(refusal), now, now, 0.0)
    pause = min(2 * before.pause, LONGEST_PAUSE) if before and before.pause else FIRST_PAUSE
    return Suspension(since, str(refusal), now, now + pause, pause)
