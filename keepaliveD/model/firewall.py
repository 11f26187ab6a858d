"""What this host's own firewall (its connection tracking) is asked about connections, and what it answers: columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FLOW = np.dtype(  # columns of model.sockets, in the order of alignment
    [
        *((name, "u8") for name in ("local_high", "local_low", "remote_high", "remote_low")),
        *(("netns", "u4"), ("local_port", "u2"), ("remote_port", "u2")),
    ]
)
ENTRY = np.dtype(
    [
        ("found", "?"),  # whether it has an entry that says when it forgets the connection
        ("forgets_in", "f8"),  # seconds, rounded down to a whole one, ...
        ("asked_at", "f8"),  # ... from this instant of the daemon's clock
        ("timeout", "f8"),  # seconds from a packet until it forgets; NaN unless surely that of this connection
        ("picks_up", "?"),  # whether a packet of an unknown connection makes it remember anew (tcp_loose)
    ]
)


class Tracked(NamedTuple):
    """How many connections the firewall of a network namespace tracks, and can track; namespace 0 is our own."""

    netns: int
    connections: int
    limit: int
