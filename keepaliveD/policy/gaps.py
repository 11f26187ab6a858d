"""Decide when to report that sockets of a network namespace are missing from scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keepaliveD.model.duration import FOREVER
from keepaliveD.model.sockets import OWN

PAUSE = 3600.0  # seconds


class Reported(NamedTuple):
    """When each namespace that was reported last had sockets missing, and when one that is not ours was reported."""

    last: Mapping[int, float] = {}
    others_at: float = -FOREVER


def to_report(incomplete: Sequence[int], before: Reported, now: float) -> tuple[tuple[int, ...], Reported]:
    """Return which namespaces to report, each once until its scans have been complete for PAUSE.

    Namespaces other than our own are reported once in PAUSE at most: anybody can make some, and hide sockets there.
    """
    known = {netns: at for netns, at in before.last.items() if now - at < PAUSE}
    waits = now - before.others_at < PAUSE
    news = tuple(netns for netns in incomplete if netns not in known and not (netns != OWN and waits))
    others_at = now if any(netns != OWN for netns in news) else before.others_at
    still = [netns for netns in incomplete if netns in known]
    return news, Reported({**known, **dict.fromkeys([*still, *news], now)}, others_at)
