"""Judge by connections with keepalive whether that keeps connections known on a path."""

from __future__ import annotations

from keepaliveD.model.dataclass import dataclass
from keepaliveD.policy.measurement import Bracket

CONVINCING = 2  # connections with keepalive, one after the other, without which the path is not said to forget all


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of connections with keepalive.

    `oldest`: the greatest age at which one answered. `forgotten`: how many did not answer after the timeout, although
    no outage was known and the far end was there; of a service, only those that nobody had ended.
    """

    oldest: float = 0.0
    forgotten: int = 0


def keepalive_helps(bracket: Bracket, kept: Kept) -> bool | None:
    """Whether keepalive keeps connections known longer than the timeout; None if that is unknown.

    One that is forgotten may have met a flush, or an outage that nobody saw. A service that closes by itself may have
    ended it.
    """
    if bracket.forgotten is None:
        return None
    if kept.oldest >= bracket.forgotten:
        return True
    return False if kept.forgotten >= CONVINCING and bracket.closes is None else None
