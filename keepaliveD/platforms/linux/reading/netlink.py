"""The engine that every kernel has: a netlink socket in each network namespace."""

from __future__ import annotations

from keepaliveD.platforms.linux.reading.engine import OneByOne
from keepaliveD.platforms.linux.reading.sock_diag import BATCH, SockDiag


class Netlink(OneByOne):
    """By sock_diag."""

    name = "netlink"

    def __init__(self) -> None:
        super().__init__(BATCH)

    def reader(self) -> SockDiag:
        """A netlink socket."""
        return SockDiag()
