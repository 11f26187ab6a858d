"""A user who ends thousands of connections at once, and what is then still told of the ends of others."""

from __future__ import annotations

import struct
from socket import SO_LINGER, SOL_SOCKET, create_connection, create_server, socket

import numpy as np

from tests.kernel.deaths.test_reader import MORE_THAN_FIT
from tests.kernel.deaths.watching import watching
from tests.support.rig import Namespace
from tests.support.unprivileged import as_nobody

NO_LINGER = struct.pack("ii", 1, 0)
ANOTHER = 65_533  # a user of whom nothing else ends on this machine, whoever runs tests there


def connected() -> tuple[socket, socket]:
    """Both ends of a connection of another user over loopback."""
    with create_server(("127.0.0.1", 0)) as listener, as_nobody(ANOTHER):
        near = create_connection(listener.getsockname())
        return near, listener.accept()[0]


def flood() -> None:
    """Open and abort so many connections over loopback, as a user without privilege."""
    with create_server(("127.0.0.1", 0)) as listener, as_nobody():
        for _ in range(MORE_THAN_FIT):
            with create_connection(listener.getsockname()):
                far = listener.accept()[0]
                far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
                far.close()


def test_a_user_who_resets_thousands_of_connections_before_anybody_reads_hides_no_end_of_another_user() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = host.inside(connected)
        ports = near.getsockname()[1], far.getsockname()[1]
        host.inside(flood)
        with near:
            far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
            far.close()
            ended = watch.until(lambda ended: np.count_nonzero(ended["uid"] == ANOTHER) == len(ports))
    assert sorted(ended["local_port"][ended["uid"] == ANOTHER].tolist()) == sorted(ports)
    assert watch.lost > 0, "all have found room"
