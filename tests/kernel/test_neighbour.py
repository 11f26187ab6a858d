"""Two daemons with two state directories set the settings of one network namespace: the second one warns."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.daemon.neighbour import NAME
from tests.support.processes import Home, configuration
from tests.support.rig import Namespace

TOLD = "another tcp-keepalived ({}) with another --state-dir sets the keepalive of this network namespace; "


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace() as host:
        yield host


def homes(directory: Path, *keepalive: str) -> tuple[Home, Home]:
    """Two, with a state directory each."""
    return Home(directory / "a", configuration()), Home(directory / "b", configuration(*keepalive))


def test_the_second_daemon_of_a_network_namespace_warns_and_names_the_first(tmp_path: Path, host: Namespace) -> None:
    one, other = homes(tmp_path)
    with one.daemon(host) as first, other.daemon(host) as second:
        (doubt,) = second.heard("doubtful")
        assert doubt["PRIORITY"] == 4
        assert doubt["MESSAGE"].startswith(TOLD.format(f"process {first.pid} of user 0"))
        assert not first.heard("doubtful")


def test_daemons_after_one_another_or_in_two_network_namespaces_do_not_warn(tmp_path: Path, host: Namespace) -> None:
    one, other = homes(tmp_path)
    with one.daemon(host) as first:
        first.stop(signal.SIGTERM)
    with other.daemon(host) as second, Namespace() as elsewhere, one.daemon(elsewhere) as third:
        assert not [*second.heard("doubtful"), *third.heard("doubtful")]


def test_a_daemon_that_sets_nothing_does_not_warn(tmp_path: Path, host: Namespace) -> None:
    one, other = homes(tmp_path, "apply = false")
    with one.daemon(host), other.daemon(host) as second:
        assert not second.heard("doubtful")


def test_whoever_takes_the_name_keeps_no_daemon_from_starting(tmp_path: Path, host: Namespace) -> None:
    """Anybody may; it may not even listen there."""
    with host.inside(lambda: socket.socket(socket.AF_UNIX)) as taker:
        host.inside(lambda: taker.bind(NAME))
        with homes(tmp_path)[0].daemon(host) as daemon:
            (doubt,) = daemon.heard("doubtful")
            assert doubt["MESSAGE"].startswith(TOLD.format("an unknown process"))
