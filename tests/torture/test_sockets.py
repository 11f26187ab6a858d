"""What may stand in a socket in the end, and what may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from socket import SO_KEEPALIVE, SOL_SOCKET, socket

import pytest

from tests.support.loopback import Settings, settings
from tests.support.processes import Home
from tests.torture import sockets
from tests.torture.kind import Failure
from tests.torture.sockets import Choice, Client, set_options

OURS: Choice = {"on": 1, "idle": 20, "interval": 7, "probes": 5}
TUNED = Settings(False, OURS["idle"], OURS["interval"], OURS["probes"])


@pytest.fixture
def sock() -> Iterator[socket]:
    with socket() as opened:
        yield opened


@pytest.fixture
def system(sock: socket) -> Settings:
    """What the namespace says: nothing is set yet."""
    return settings(sock)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Of a daemon that has armed each socket there is."""
    monkeypatch.setattr(sockets, "recorded", lambda _sock, _home: True)
    return Home(tmp_path, "")


def test_a_time_that_its_program_chose_must_stand(sock: socket, system: Settings) -> None:
    client = Client(sock, {"idle": 30})
    with pytest.raises(Failure, match="chosen"):
        client.examine(system)
    set_options(sock, {"idle": 30})
    client.examine(system)


def test_a_time_that_equalled_the_systems_may_follow_it_and_no_other(sock: socket, system: Settings) -> None:
    """The engine that armed it tells values only."""
    client = Client(sock, {"idle": TUNED.idle, "probes": 9})
    set_options(sock, {"probes": 9})
    client.presume(TUNED)
    client.examine(system)
    set_options(sock, {"idle": TUNED.idle + 1})
    with pytest.raises(Failure):
        client.examine(system)


def test_what_changed_nothing_may_count_as_never_set(sock: socket, system: Settings, home: Home) -> None:
    """The daemon had set exactly that: all is put back, or all of it stands."""
    client = Client(sock, {})
    set_options(sock, OURS)
    client.set({"on": 1}, home)
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 0)
    with pytest.raises(Failure):
        client.examine(system)
    client.examine(TUNED._replace(on=False))


def test_what_was_changed_since_must_stand(sock: socket, system: Settings, home: Home) -> None:
    client = Client(sock, {})
    set_options(sock, OURS)
    client.set({"idle": 30}, home)
    client.examine(system)
    set_options(sock, {"idle": OURS["idle"]})
    with pytest.raises(Failure, match="since"):
        client.examine(system)
