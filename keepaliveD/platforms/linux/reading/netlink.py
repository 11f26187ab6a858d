"""The engine that every kernel has: a netlink socket in each network namespace."""

from __future__ import annotations

from collections.abc import Set

from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux.reading.dumps import BATCH
from keepaliveD.platforms.linux.reading.engine import Gaps, OneByOne
from keepaliveD.platforms.linux.reading.idle_time import IdleTime
from keepaliveD.platforms.linux.reading.sock_diag import SockDiag

MOST_IDLE_TIMES = 128  # that are followed: each takes one of the descriptors that are kept in reserve


class Netlink(OneByOne):
    """By sock_diag, which tells no settings of sockets: some may follow those of their namespaces."""

    name = "netlink"

    def __init__(self) -> None:
        super().__init__(BATCH)
        self._idle_times: dict[int, IdleTime] = {}

    def reader(self) -> SockDiag:
        """A netlink socket."""
        return SockDiag()

    def enter(self, netns: int) -> None:
        """Enter the network namespace of the calling thread."""
        super().enter(netns)
        if len(self._idle_times) < MOST_IDLE_TIMES:
            self._idle_times[netns] = IdleTime()

    def leave(self, netns: int) -> None:
        """Leave the network namespace."""
        if one := self._idle_times.pop(netns, None):
            one.close()
        super().leave(netns)

    def read(self, sockets: Sockets) -> Gaps:
        """Read one namespace after the other; of each, all sockets or none."""
        self.changed_idle_time: Set[int] = {netns for netns, one in self._idle_times.items() if one.has_changed()}
        return super().read(sockets)
