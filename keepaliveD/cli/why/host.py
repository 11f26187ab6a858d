"""What an explanation knows of this host besides the connections."""

from __future__ import annotations

from typing import NamedTuple

from keepaliveD.cli.why import forgotten
from keepaliveD.cli.why.forgotten import Forgotten
from keepaliveD.model.connections import Connection
from keepaliveD.model.keepalive import Keepalive


class Host(NamedTuple):
    """What else is known of this host: whether a daemon runs, and which settings it has replaced, in its namespace.

    `forgotten` are connections that paths forgot. `hidden` is why the arming record cannot be read, "" where it can.
    All sockets are scanned once in so many seconds at least: `interval`, 0 where that is not known.
    """

    daemon: bool = False
    netns: int = 0
    without_us: Keepalive | None = None
    forgotten: Forgotten = forgotten.NOTHING
    hidden: str = ""
    interval: float = 0.0

    def replaced(self, one: Connection) -> Keepalive | None:
        """Return the system's settings that ours have replaced for this connection, if any."""
        return self.without_us if one.netns == self.netns else None
