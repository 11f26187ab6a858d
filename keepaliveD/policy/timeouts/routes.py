"""What the connections of the default path have shown, apart by interface and next hop: two uplinks, two counters.

It advises. No verdict follows it, and it makes no path: see docs/decisions/keep-evidence-by-configured-path.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keepaliveD.model.findings import Finding
from keepaliveD.model.routes import Route, SeenByRoute
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import Column, Indices, Sockets
from keepaliveD.policy.timeouts.path_evidence import SHORTEST, WIDTH, Events, findings, nothing_known, observe

ENDS = np.dtype([(name, "u8") for name in ("local_high", "local_low", "remote_high", "remote_low")])
"""The two addresses of a connection, in their IPv6 form, as in model.sockets."""

DEFAULT = 0  # the path that is counted by route: a person has chosen the others
MOST_ROUTES = 16  # the first ones: 9 KB each
MOST_ENDS = 4096  # pairs of addresses whose route is remembered, or is still to be found
AT_ONCE = 64  # that are asked for after one scan
STANDS = 600.0  # seconds for which a route stands; then the next new connection has it asked for again
MIX, MIX_LOCAL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)  # odd, of about as many ones as zeros
UNKNOWN = -1


class _Known(NamedTuple):
    """The number of the route that a pair of addresses takes, UNKNOWN for none, and when that was asked for."""

    route: int
    at: float


class ByRoute:
    """Finds out which routes connections of the default path take, and counts silences and deaths of each."""

    def __init__(self) -> None:
        self._routes: list[Route] = []
        self._known: dict[int, _Known] = {}  # by the key of a pair of addresses, in the order in which they came
        self._wanted: dict[int, tuple[int, ...]] = {}  # ENDS by key
        self._now = 0.0
        self.forget()

    def forget(self) -> None:
        """Forget what was counted."""
        self._evidence = nothing_known(MOST_ROUTES)

    def meet(self, rows: Sockets | Column, new: Indices, now: float) -> None:
        """Take note of connections that are new; their routes are to be found, if they are not known."""
        self._now = now
        keys, first = np.unique(_keys(rows, new), return_index=True)
        columns = [rows[name][new[first]].tolist() for name in ENDS.names or ()]
        for key, *ends in zip(keys.tolist(), *columns, strict=True):
            if len(self._wanted) >= MOST_ENDS:
                return
            known = self._known.get(key)
            if known is None or now - known.at > STANDS:
                self._wanted[key] = tuple(ends)

    def to_find(self) -> Column:
        """Return the ENDS whose routes are to be found now."""
        return np.array(list(self._wanted.values())[:AT_ONCE], ENDS)

    def learn(self, ends: Column, routes: Sequence[Route | None]) -> None:
        """Learn the routes of the first of these; of too many the oldest are forgotten."""
        some = np.arange(len(routes))
        for key, route in zip(_keys(ends, some).tolist(), routes, strict=True):
            self._wanted.pop(key, None)
            self._known.pop(key, None)
            self._known[key] = _Known(self._number(route), self._now)
        for key in list(self._known)[: max(0, len(self._known) - MOST_ENDS)]:
            del self._known[key]

    def count(self, rows: Sockets | Column, which: Indices, events: Events) -> None:
        """Count events of these rows, those of the default path whose route is known."""
        here = np.flatnonzero(events.path == DEFAULT)
        if not len(here) or not self._routes:
            return
        keys, inverse = np.unique(_keys(rows, which[here]), return_inverse=True)
        nothing = _Known(UNKNOWN, 0.0)
        route = np.array([self._known.get(key, nothing).route for key in keys.tolist()], np.intp)[inverse]
        known = here[route != UNKNOWN]
        counted = events.select(known)._replace(path=route[route != UNKNOWN])
        self._evidence = observe(self._evidence, counted)

    def findings(self, default: Path, products: Sequence[float]) -> list[Finding]:
        """Return what contradicts the default path's timeout by one route; nothing unless there are two at least."""
        if not self.seen():
            return []
        return list(findings([default] * len(self._routes), self._evidence, products, self._routes))

    def seen(self) -> tuple[SeenByRoute, ...]:
        """Return what was seen by each route, where there are several; that of one alone is that of the path."""
        found = [one for one in map(self._seen, range(len(self._routes))) if one.survived or one.deaths]
        return tuple(found) if len(found) > 1 else ()

    def _seen(self, number: int) -> SeenByRoute:
        lived, died = self._evidence.lived[number], self._evidence.died[number]
        longest = SHORTEST * WIDTH ** int(np.flatnonzero(lived)[-1]) if lived.any() else 0.0
        shortest = SHORTEST * WIDTH ** int(np.flatnonzero(died)[0]) if died.any() else 0.0
        return SeenByRoute(self._routes[number], int(lived.sum()), longest, int(died.sum()), shortest)

    def _number(self, route: Route | None) -> int:
        """Return the number of a route, UNKNOWN where there is none or there are too many."""
        if route is None:
            return UNKNOWN
        if route not in self._routes:
            if len(self._routes) >= MOST_ROUTES:
                return UNKNOWN
            self._routes.append(route)
        return self._routes.index(route)


def _keys(rows: Sockets | Column, which: Indices) -> Column:
    """Return a number for each pair of addresses, the same for hardly any two."""
    local_high, local_low, remote_high, remote_low = (rows[name][which] for name in ENDS.names or ())
    keys: Column = (remote_low ^ (remote_high * MIX)) * MIX_LOCAL ^ local_low ^ (local_high * MIX)
    return keys
