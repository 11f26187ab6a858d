"""By which interface and next hop this host sends packets to a peer."""

from __future__ import annotations

from typing import NamedTuple

from keepaliveD.model.dataclass import dataclass


class Route(NamedTuple):
    """The interface, and the address of the router behind it; `next_hop` is "" where the peer needs none."""

    interface: str
    next_hop: str = ""

    def __str__(self) -> str:
        """Return the words that follow "by"."""
        return f"{self.interface} (next hop {self.next_hop})" if self.next_hop else self.interface


@dataclass(frozen=True, slots=True)
class SeenByRoute:
    """What connections of the default path that take this route have shown. Silences in seconds, to 5 %.

    `longest` is the longest silence that one survived, `shortest` the shortest in which one died; 0 without any.
    """

    route: Route
    survived: int
    longest: float
    deaths: int
    shortest: float
