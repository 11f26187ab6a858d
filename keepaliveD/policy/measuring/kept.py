"""Judge by connections with keepalive whether that keeps connections known on a path."""

from __future__ import annotations

from keepaliveD.model.dataclass import dataclass
from keepaliveD.policy.measuring.measurement import CLEARLY, SURE, Bracket

CONVINCING = 2  # times, one after the other, without which the path is not said to forget those with keepalive


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of connections with keepalive.

    `oldest`: the age in seconds at which so many `together` answered last, all that were tried then. `forgotten`: how
    many times some did not answer after the timeout, although no outage was known and the far end was there; of a
    service, only those count that nobody had ended.
    """

    oldest: float = 0.0
    together: int = 0
    forgotten: int = 0


def proving_age(bracket: Bracket) -> float | None:
    """Return the age in seconds by which a connection has clearly outlived the timeout; None without a timeout.

    A path that ends each connection at the same age, whatever it sends, has the latest of them end a little later.
    Where no probe of the peer is ever heard, a proxy may answer those of this host, which then show nothing.
    """
    return None if bracket.forgotten is None or bracket.unheard is not None else bracket.forgotten * CLEARLY


def needed(bracket: Bracket, connections: int) -> int:
    """Return how many must outlive the timeout together, of so many that may be left quiet at a time.

    Where connections take different devices, one alone may have missed the device that counts data only.
    """
    return min(SURE, connections) if bracket.uneven else 1


def keepalive_helps(bracket: Bracket, kept: Kept, connections: int) -> bool | None:
    """Whether keepalive keeps connections known longer than the timeout; None if that is unknown.

    One that is forgotten may have met a flush, or an outage that nobody saw. A service that closes by itself may have
    ended it.
    """
    age = proving_age(bracket)
    if age is None:
        return None
    if kept.oldest >= age and kept.together >= needed(bracket, connections):
        return True
    return False if kept.forgotten >= CONVINCING and bracket.closes is None else None
