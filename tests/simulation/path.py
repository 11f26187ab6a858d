"""What lies between two ends: firewalls that forget, latency, and outages."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from tests.simulation.kernel import CARRIES, Kind

OUT, IN = 0, 1  # from the watched end, towards it


class Refresh(enum.Enum):
    """Which packets make a firewall remember for another timeout."""

    ANY = "any packet"
    OUT = "packets from this host"
    IN = "packets to this host"
    DATA = "packets with data"
    BYTES = "packets with data that it has not seen, as a proxy"


@dataclass(slots=True)
class Firewall:
    """Forgets a connection exactly `timeout` seconds after the last packet that counts."""

    timeout: float
    rejects: bool
    refresh: Refresh = Refresh.ANY
    last: float = 0.0
    seen: list[int] = field(default_factory=lambda: [1, 1])  # up to which sequence, by direction

    def forgets_at(self) -> float:
        """When, if no other packet comes."""
        return self.last + self.timeout

    def passes(self, now: float, direction: int, kind: Kind, upto: int) -> bool:
        """Whether this packet goes through; it counts from then on."""
        if now >= self.last + self.timeout:
            return False
        match self.refresh:
            case Refresh.OUT:
                counts = direction == OUT
            case Refresh.IN:
                counts = direction == IN
            case Refresh.DATA:
                counts = kind in CARRIES
            case Refresh.BYTES:
                counts = kind in CARRIES and upto > self.seen[direction]
                self.seen[direction] = max(self.seen[direction], upto)
            case _:
                counts = True
        if counts and now > self.last:
            self.last = now
        return True


@dataclass(frozen=True, slots=True)
class Outage:
    """While it lasts nothing passes the segment before this firewall, counted from the watched end."""

    start: float
    end: float
    segment: int
