"""What is known of a quiet connection, whatever the peer does, and however late somebody looks."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from socket import SO_LINGER, SOL_SOCKET, create_connection, create_server, socket

import pytest

from keepaliveD.measuring.connection import Connection, clock, set_keepalive
from tests.support.patience import SOON, wait_for


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket]]:
    """A connection, and the peer's end of it."""
    with create_server(("127.0.0.1", 0)) as server, create_connection(server.getsockname(), SOON) as near:
        far, _ = server.accept()
        near.setblocking(False)
        with far:
            yield Connection(near), far


def test_of_a_packet_that_was_noticed_late_only_the_silence_before_it_counts(ends: tuple[Connection, socket]) -> None:
    """Whoever stops this program, or the machine that stands still, makes no silence longer."""
    connection, far = ends
    assert not connection.heard()
    unbroken = connection.unbroken
    arrived = connection.state().packets + 1
    set_keepalive(far, idle=1, interval=1)
    wait_for(lambda: connection.state().packets >= arrived)
    assert connection.heard()
    assert connection.unbroken == unbroken < connection.quiet


def test_a_silence_begins_no_earlier_than_the_peers_keepalive_probe(ends: tuple[Connection, socket]) -> None:
    """The kernel keeps no time of it: the silences that such probes broke counted as one long silence."""
    connection, far = ends
    set_keepalive(far, idle=1, interval=1)
    wait_for(connection.heard)
    noticed = clock()
    connection.restart()
    assert connection.started >= noticed


def test_a_packet_without_data_begins_no_silence_for_a_path_that_counts_only_data(
    ends: tuple[Connection, socket],
) -> None:
    """An acknowledgement that came late, on a busy machine, made such a path forget 0.7 s too early."""
    connection, far = ends
    set_keepalive(far, idle=1, interval=1)
    wait_for(connection.heard)
    since_data = connection.quiet
    connection.restart()
    assert connection.quiet < since_data <= connection.quiet_at_most


def test_a_reset_after_an_answer_is_told_from_a_reset_that_is_the_answer(ends: tuple[Connection, socket]) -> None:
    connection, far = ends
    arrived = connection.state().packets + 1
    connection.probe()
    wait_for(lambda: connection.state().packets >= arrived)
    reset(far)
    wait_for(connection.ended)
    assert connection.was_reset
    assert connection.has_answered()


def test_a_reset_alone_is_no_answer(ends: tuple[Connection, socket]) -> None:
    connection, far = ends
    reset(far)
    wait_for(connection.ended)
    assert connection.was_reset
    assert not connection.has_answered()


def reset(far: socket) -> None:
    far.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    far.close()


def test_time_goes_on_while_the_machine_sleeps(
    ends: tuple[Connection, socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall goes on counting, too."""
    connection, _ = ends
    real = time.clock_gettime

    def asleep(clock: int) -> float:
        return real(clock) + 3600 * (clock == time.CLOCK_BOOTTIME)

    monkeypatch.setattr(time, "clock_gettime", asleep)
    assert connection.quiet >= 3600


def test_a_peer_that_sends_faster_than_it_is_read_holds_nothing_up(ends: tuple[Connection, socket]) -> None:
    connection, far = ends
    near = connection.sock

    class Flooded:
        """A socket from which there is always more to read."""

        def recv(self, _: int) -> bytes:
            return b"more"

        def getsockopt(self, level: int, option: int, length: int) -> bytes:
            return near.getsockopt(level, option, length)

    connection.sock = Flooded()  # type: ignore[assignment]
    assert not connection.ended()
    connection.sock = near
    far.close()
    wait_for(connection.ended)
    assert connection.ended()
