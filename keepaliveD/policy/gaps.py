"""Decide when to report that network namespaces, or some of their sockets, are missing from scans."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from keepaliveD.model.duration import FOREVER
from keepaliveD.model.sockets import OWN, Unwatched

PAUSE = 3600.0  # seconds
NAMED = ("silent", "crowded", "incomplete")  # of Unwatched: namespaces by inode or OWN
COUNTED = ("forbidden", "surplus", "hidden")  # ... how many, of which none is our own


class Reported(NamedTuple):
    """When each namespace that was reported last had sockets missing, and when one that is not ours was reported."""

    last: Mapping[int, float] = {}
    others_at: float = -FOREVER


class Counted(NamedTuple):
    """How many namespaces were reported last, and when."""

    number: int = 0
    at: float = -FOREVER


class Known(NamedTuple):
    """What was reported, for each field of Unwatched: each has its own pause, so that none hides another."""

    named: Mapping[str, Reported] = {}
    counted: Mapping[str, Counted] = {}


def news(unwatched: Unwatched, before: Known, now: float, own: int) -> tuple[Unwatched, Known]:
    """Return what of this to report; `own` is our own network namespace by inode, or OWN."""
    ours = (OWN, own)
    named = {kind: to_report(getattr(unwatched, kind), before.named.get(kind, Reported()), now, ours) for kind in NAMED}
    counted = {kind: to_count(getattr(unwatched, kind), before.counted.get(kind, Counted()), now) for kind in COUNTED}
    found: dict[str, Any] = {kind: what for kind, (what, _) in (*named.items(), *counted.items())}
    known = Known({kind: new for kind, (_, new) in named.items()}, {kind: new for kind, (_, new) in counted.items()})
    return Unwatched(**found), known


def to_report(
    missing: Sequence[int], before: Reported, now: float, ours: Collection[int] = (OWN,)
) -> tuple[tuple[int, ...], Reported]:
    """Return which namespaces to report, each once until its scans have been complete for PAUSE.

    Namespaces other than our own are reported once in PAUSE at most: anybody can make some, and hide sockets there.
    """
    known = {netns: at for netns, at in before.last.items() if now - at < PAUSE}
    waits = now - before.others_at < PAUSE
    new = tuple(netns for netns in missing if netns not in known and not (netns not in ours and waits))
    others_at = now if any(netns not in ours for netns in new) else before.others_at
    still = [netns for netns in missing if netns in known]
    return new, Reported({**known, **dict.fromkeys([*still, *new], now)}, others_at)


def to_count(number: int, before: Counted, now: float) -> tuple[int, Counted]:
    """Return how many namespaces to report, 0 for none: where another number was reported, but once in PAUSE at most.

    Anybody can make namespaces, and have their number change at each scan.
    """
    if number == before.number or now - before.at < PAUSE:
        return 0, before
    return (number, Counted(number, now)) if number else (0, Counted(0, before.at))
