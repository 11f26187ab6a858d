"""Connections as a system's program lists them, and the scan that they make up."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.sockets import Column, Sockets, SocketTable, Switch, TcpState, Timer
from keepaliveD.platforms.listing import interfaces
from keepaliveD.platforms.listing.endpoints import End

LOW_HALF = (1 << 64) - 1
WRAP = (1 << 32) - 1

STATES: Mapping[str, TcpState | None] = {  # None: no packet flows that a firewall would have to let through
    "ESTABLISHED": TcpState.ESTABLISHED,
    "CLOSE_WAIT": TcpState.CLOSE_WAIT,
    "FIN_WAIT1": TcpState.FIN_WAIT1,
    "FIN_WAIT2": TcpState.FIN_WAIT2,
    "BOUND": None,
    "CLOSE": None,
    "CLOSED": None,
    "CLOSING": None,
    "IDLE": None,
    "LAST_ACK": None,
    "LISTEN": None,
    "NONE": None,
    "SYN_RCVD": None,
    "SYN_RECEIVED": None,
    "SYN_RECV": None,
    "SYN_SENT": None,
    "TIME_WAIT": None,
}


@dataclass(frozen=True, slots=True)
class ListedSocket:
    """A socket as a program lists it. What the system does not show has its default.

    `identity` is whatever else tells it from a later one between the same endpoints.
    `received` and `sent` count anything that moves when segments do. Times are seconds.
    """

    local: End
    remote: End
    state: TcpState
    identity: str = ""
    received: int = 0
    sent: int = 0
    quiet: float = math.nan  # since the peer was heard
    timer: Timer = Timer.UNSEEN
    expires: float = 0.0
    keepalive: Switch = Switch.UNKNOWN

    @property
    def cookie(self) -> int:
        """Return a number that stays the same while the connection is open: a 64-bit hash of what identifies it.

        Without `identity` a connection that follows another between the same endpoints is taken for
        the same one; it inherits its history until it moves, which it does when it is opened.
        """
        words = f"{self.local.text} {self.remote.text} {self.identity}"
        return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest())


def tcp_state(word: str) -> TcpState | None:
    """Return the state of that name, None if it is of no concern. Raises ValueError."""
    name = word.replace("WAIT_", "WAIT")
    if name not in STATES:
        raise ValueError(f"{word!r} is no state of TCP")
    return STATES[name]


class Listing(Protocol):
    """What the programs of one system show of its connections."""

    @property
    def limits(self) -> tuple[str, ...]:
        """Return what the programs do not show, for people: a line each."""

    def read(self, now: float) -> Sequence[ListedSocket]:
        """Return all connections that can be seen.

        Raises Unsupported, NotPermitted, KernelError.
        """


class ListingWatcher:
    """Scans the connections that are listed.

    Ages that the system does not tell follow from the counters (policy/verdicts/packets.py), but for one
    thing that only the watcher knows: what is new since the last scan was opened since then.
    """

    engine_description = "connections listed by the system's own programs"

    def __init__(self, listing: Listing, *, with_interfaces: bool = False) -> None:
        self._listing = listing
        self._with_interfaces = with_interfaces
        self._known: frozenset[int] | None = None
        self._taken_at = math.nan

    def scan(self, now: float) -> SocketTable:
        """Return all connections that can be seen; `now` is the time. Raises Unsupported, NotPermitted, KernelError."""
        listed = self._listing.read(now)
        sockets = Sockets()
        new = sockets.extend(len(listed))
        for column in new.values():
            column[:] = 0
        cookies = [one.cookie for one in listed]
        new["cookie"][:] = cookies
        for side, ends in (("local", [one.local for one in listed]), ("remote", [one.remote for one in listed])):
            new[f"{side}_high"][:] = [end.address >> 64 for end in ends]
            new[f"{side}_low"][:] = [end.address & LOW_HALF for end in ends]
            new[f"{side}_port"][:] = [end.port for end in ends]
        new["segments_in"][:] = [one.received & WRAP for one in listed]
        new["segments_out"][:] = [one.sent & WRAP for one in listed]
        new["expires"][:] = [one.expires for one in listed]
        for name in ("state", "timer", "keepalive"):
            new[name][:] = [getattr(one, name) for one in listed]
        for name in ("since_sent", "since_acked", "since_packet", "slack"):
            new[name][:] = np.nan
        new["since_received"][:] = [one.quiet for one in listed]
        self._date_the_opened(new["since_received"], cookies, now)
        names = interfaces.resolve(new) if self._with_interfaces else ("",)
        return SocketTable(sockets, now, interfaces=names, engine_description=self.engine_description)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _date_the_opened(self, since: Column, cookies: list[int], now: float) -> None:
        if self._known is not None:
            opened = np.array([cookie not in self._known for cookie in cookies], np.bool_)
            since[opened & np.isnan(since)] = now - self._taken_at
        self._known, self._taken_at = frozenset(cookies), now
