"""Judge by connections with keepalive whether that keeps connections known on a path."""

from __future__ import annotations

from keepaliveD.model.dataclass import dataclass
from keepaliveD.policy.measuring.measurement import CLEARLY, Bracket

CONVINCING = 2  # connections with keepalive, one after the other, without which the path is not said to forget all


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of connections with keepalive.

    `oldest`: the greatest age at which one answered. `forgotten`: how many did not answer after the timeout, although
    no outage was known and the far end was there; of a service, only those that nobody had ended.
    """

    oldest: float = 0.0
    forgotten: int = 0


def proving_age(bracket: Bracket) -> float | None:
    """Return the age in seconds by which a connection has clearly outlived the timeout; None without a timeout.

    A path that ends each connection at the same age, whatever it sends, has the latest of them end a little later.
    """
    return None if bracket.forgotten is None else bracket.forgotten * CLEARLY


def keepalive_helps(bracket: Bracket, kept: Kept) -> bool | None:
    """Whether keepalive keeps connections known longer than the timeout; None if that is unknown.

    One that is forgotten may have met a flush, or an outage that nobody saw. A service that closes by itself may have
    ended it.
    """
    age = proving_age(bracket)
    if age is None:
        return None
    if kept.oldest >= age:
        return True
    return False if kept.forgotten >= CONVINCING and bracket.closes is None else None
