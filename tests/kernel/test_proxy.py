"""A proxy counts bytes: it closes a connection in spite of its keepalive, and the daemon says so beforehand."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import pytest

from tests.support.patience import SOON
from tests.support.processes import ENABLE, WARNING_TIME, Home, arming, program, sockets
from tests.support.rig import Rig
from tests.support.versions import ITERATOR, since

CLOSES = 24  # seconds without a byte after which the proxy closes, half of which are left to a busy machine
PROBES = 1  # seconds between the program's keepalive probes
MARGIN = 1.0  # seconds
EARLIER = CLOSES // 2  # seconds before the cut


@contextlib.contextmanager
def proxy(end: socket) -> Iterator[list[float]]:
    """What a proxy's end of a connection does; the instant at which it closed is in the list."""
    closed: list[float] = []

    def relay() -> None:
        while select.select([end], [], [], CLOSES)[0]:
            if not (word := end.recv(100)):
                return
            end.sendall(word)
        end.close()
        closed.append(time.monotonic())

    thread = threading.Thread(target=relay)
    thread.start()
    try:
        yield closed
    finally:
        thread.join()


@pytest.mark.parametrize("engine", [pytest.param("bpf", marks=since(ITERATOR)), "netlink"])
def test_a_keepalive_through_a_proxy_is_not_called_safe(engine: str, tmp_path: Path) -> None:
    """It was, and the proxy closed all the same; no socket is armed in vain, and the warning says what helps."""
    path = f'counts = "data"\n        timeout = "{CLOSES}s"'
    text = arming(ENABLE).replace('timeout = "12s"', path).replace("[watch]", f'[watch]\n        engine = "{engine}"')
    text = text.replace(f'warn_before = "{WARNING_TIME}s"', f'warn_before = "{EARLIER}s"')
    assert path in text
    home = Home(tmp_path, text)
    with (
        Rig(timeout=8 * CLOSES) as rig,
        home.daemon(rig.client) as daemon,
        program(rig, keepalive=PROBES) as other,
        program(rig, keepalive=PROBES) as talker,
    ):
        began = time.monotonic()
        with proxy(talker.far) as closed:
            where = talker.endpoints
            warning = daemon.expect("bare", **where)
            assert warning["KEEPALIVE_TIMEOUT_COUNTS"] == "data"
            assert "at risk: no data is due, and path rig forgets it in " in warning["MESSAGE"]
            assert "keepalive does not help, because that path counts only data" in warning["MESSAGE"]
            talker.listen()
            assert talker.heard(SOON) == "closed"
        assert CLOSES - MARGIN < closed[0] - began < CLOSES + SOON
        left = warning["KEEPALIVE_LEFT_SEC"]
        assert 0 < left <= EARLIER
        port = other.endpoints["KEEPALIVE_LOCAL_PORT"]
        (listed,) = [each for each in sockets(rig.client, home) if each["local"]["port"] == port]
        assert (listed["verdict"], listed["counts"], listed["keepalive"]) == ("cut", "data", "on")
        assert not daemon.heard("safe", "armed", "unarmed", "late")
