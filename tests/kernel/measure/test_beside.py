"""A measurement beside a daemon that watches all connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, create_server

import pytest

from tests.kernel.conftest import missing
from tests.support.patience import SOON
from tests.support.processes import CTL, WARNING_TIME, Home, configuration, program
from tests.support.rig import SERVER, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    if reason := missing():
        pytest.skip(reason)
    with Rig(timeout=600) as rig:
        yield rig


def test_the_daemon_does_not_warn_of_connections_that_are_quiet_on_purpose(rig: Rig, tmp_path: Path) -> None:
    """It warns of all others, counts those, too, and lists them."""
    home = Home(tmp_path, configuration(timeout=WARNING_TIME + 2))
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(home.daemon(rig.client))
        listener = stack.enter_context(rig.server.inside(lambda: create_server((SERVER[AF_INET], 0))))
        listener.settimeout(SOON)
        port = listener.getsockname()[1]
        measuring = (*CTL, "measure", f"{SERVER[AF_INET]}:{port}", "--connections=2", "--shortest=1min", "--longest=1h")
        stack.enter_context(rig.client.running(*measuring))
        _ends = [stack.enter_context(listener.accept()[0]) for _ in range(2)]
        with program(rig) as other:
            daemon.expect("bare", **other.endpoints)  # which has been quiet for a shorter time
            warned = daemon.heard("bare", "late", "cut")
        assert [entry for entry in warned if entry["KEEPALIVE_REMOTE_PORT"] == port] == []
        daemon.stop()
