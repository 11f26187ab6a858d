"""That a scene ends its own connection alone, and how the matrix is asked for."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from socket import AF_INET

import pytest

from keepaliveD.model.causes import Cause
from tests.kernel.deaths.rig import Rig
from tests.kernel.deaths.scenes import FIRST_PORT, Play, Scene, somebody_kills_the_socket
from tests.kernel.deaths.strange import mptcp_connection_is_killed, somebody_kills_a_socket_whose_peer_has_closed

ONE = 40_000  # port, the only one that the client's connections may have


def test_a_scene_that_destroys_a_connection_spares_others_from_the_same_port() -> None:
    """The kernel gives a local port to several connections, if they lead to different ports of the server."""
    with contextlib.closing(Rig()) as rig:
        rig.client.set_sysctl("net.ipv4.ip_local_port_range", f"{ONE} {ONE}")
        killers = (somebody_kills_the_socket, mptcp_connection_is_killed, somebody_kills_a_socket_whose_peer_has_closed)
        for number, killer in enumerate(killers):
            scene, port = scene_of(killer), FIRST_PORT + 2 * number
            other, killing = Play(rig, scene, port), Play(rig, scene, port + 1)
            with other.stack, killing.stack:
                client, server = other.open()
                killer(killing)
                assert client.getsockname()[1] == killing.ports["client"][0] == ONE
                other.talk(client, server)


def scene_of(play: Callable[[Play], None]) -> Scene:
    """It is played over IPv4."""
    return Scene("destroyed", {"client": Cause.LOCAL_KILL}, play, AF_INET, untold=False)


def test_the_matrix_says_how_it_is_asked_for_and_plays_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernel.deaths", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "--netlink" in done.stdout
    assert "middlebox-idle" not in done.stdout


@pytest.mark.parametrize("wrong", [("no_such_scene",), ("--loss", "100"), ("--loss", "-1")])
def test_the_matrix_refuses_a_scene_that_does_not_exist_and_a_path_that_loses_all(wrong: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernel.deaths", *wrong], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert wrong[-1] in done.stderr
