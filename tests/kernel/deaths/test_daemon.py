"""The real daemon logs what ended a connection, as the person who asks for it would read it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from socket import AF_INET, create_server, socket
from typing import Any

import pytest

from tests.kernel.conftest import missing
from tests.kernel.deaths.rig import SERVER, Rig
from tests.support.processes import Daemon, Home

CONFIGURATION = """
[keepalive]
apply = false
[watch]
namespaces = "own"
interval = "500ms"
warn_before = "1s"
ignore = []
default_timeout = "infinity"
[autopsy]
log = "all"
"""
QUIET = 2.5  # seconds: longer than a busy connection is silent
PORT = 7000

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@dataclass
class Place:
    """The rig, and the daemon at its client."""

    rig: Rig
    daemon: Daemon
    port: int = PORT

    @contextlib.contextmanager
    def connection(self) -> Iterator[tuple[socket, socket]]:
        """Both ends of a new connection that has carried a word each way."""
        self.port += 1
        with contextlib.ExitStack() as stack:
            listener = self.rig.server.inside(lambda: create_server((SERVER[AF_INET], self.port)))
            stack.enter_context(listener)
            client = stack.enter_context(self.rig.client.inside(socket))
            client.connect((SERVER[AF_INET], self.port))
            server, _ = listener.accept()
            stack.enter_context(server)
            client.sendall(b"ask")
            assert server.recv(3) == b"ask"
            server.sendall(b"answer")
            assert client.recv(6) == b"answer"
            yield client, server

    def died(self) -> dict[str, Any]:
        """The entry about the last connection."""
        entry: dict[str, Any] = self.daemon.expect("died", KEEPALIVE_REMOTE_PORT=self.port)
        return entry


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with contextlib.closing(Rig()) as rig:
        home = Home(tmp_path_factory.mktemp("home"), CONFIGURATION)
        with home.daemon(rig.client) as daemon:
            yield Place(rig, daemon)


def test_a_firewall_that_forgot_is_named_with_its_hop_and_the_lines_that_prevent_it(place: Place) -> None:
    with place.connection() as (client, _):
        time.sleep(QUIET)
        place.rig.treat("firewall", "reject_there", place.port)
        client.sendall(b"hello")
        entry = place.died()
    assert entry["KEEPALIVE_CAUSE"] == "middlebox-idle", entry
    assert entry["KEEPALIVE_HOP"] == 2
    assert entry["KEEPALIVE_CONFIDENCE"] == 0.95
    assert "[[path]]" in entry["KEEPALIVE_REMEDY"]
    assert "at hop 2 of 4" in entry["MESSAGE"]
