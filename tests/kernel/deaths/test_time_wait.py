"""What is left of a connection that both ends have closed may be reset: no connection ends then (RFC 1337)."""

from __future__ import annotations

import contextlib
import time
from socket import AF_INET

import pytest

from keepaliveD.platforms.base import DeathWatch
from tests.kernel.deaths.rig import ACK, RECEIVED, RST, Rig, Segment, sequence_number
from tests.kernel.deaths.scenes import FIRST_PORT, Play, Scene, abort, wait_for_end
from tests.kernel.deaths.watching import watching
from tests.support.patience import wait_for

ENGINES = ("bpf", "netlink")
SOONER = 45.0  # seconds: than by itself, after 60
SCENE = Scene("closed", {}, lambda _: None, AF_INET, untold=False)


def closed(play: Play) -> tuple[int, int]:
    """Close both ends of a new connection; return the client's port, and the number that it expects next."""
    client, server = play.open()
    port, number = client.getsockname()[1], sequence_number(client, RECEIVED)
    client.close()
    assert server.recv(1) == b""
    server.close()
    wait_for(lambda: is_left(play))
    return port, (number + 1) & 0xFFFFFFFF


def is_left(play: Play) -> bool:
    """Whether something is left of it."""
    shown = play.rig.client.run("ss", "-Htn", "state", "time-wait", "dport", "=", f":{play.port}")
    assert shown.returncode == 0, shown.stderr
    return bool(shown.stdout.strip())


def not_left_after(play: Play, seconds: float) -> bool:
    """Whether nothing is left of it within so long."""
    deadline = time.monotonic() + seconds
    while (left := is_left(play)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left


def end_another(play: Play) -> None:
    """End another connection, by a reset of the peer: its end is seen after all that came before."""
    client, server = play.open()
    abort(server)
    wait_for_end(client)
    client.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("flags", [RST, ACK], ids=["by a reset", "by an old packet, which the peer answers so"])
def test_what_is_left_of_a_connection_may_be_reset_and_no_end_is_seen(engine: str, flags: int) -> None:
    with contextlib.closing(Rig()) as rig, watching(rig.client, watch=DeathWatch(engine, idle=1.0)) as watch:
        first, other = (Play(rig, SCENE, FIRST_PORT + number) for number in (0, 1))
        with first.stack, other.stack:
            port, expected = closed(first)
            number = expected if flags == RST else (expected - 1000) & 0xFFFFFFFF
            rig.forge(Segment(first.port, port, number, flags), hop_limit=62)
            assert not_left_after(first, SOONER)
            end_another(other)
            watch.until(lambda ended: other.port in ended["remote_port"])
    assert set(watch.ended["remote_port"].tolist()) == {other.port}
    assert watch.ordinary >= 1
