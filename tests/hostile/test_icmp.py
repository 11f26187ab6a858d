"""Forged ICMP errors, of a sender who does not see the connection, are no router's."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from keepaliveD.model.sockets import Column
from keepaliveD.platforms.base import DeathWatch
from tests.kernel.deaths.rig import CLIENT, FIREWALL, SENT, SERVER, Rig, checksum, sequence_number
from tests.kernel.deaths.scenes import keepalive
from tests.kernel.deaths.watching import Watch, watching

UNREACHABLE, HOST = 3, 1  # RFC 792
PORT = 5000
ENGINES = ("bpf", "netlink")


def forged(port: int, number: int) -> bytes:
    """An error that quotes a packet of the client to the server, from this port, with this sequence number."""
    ends = (socket.inet_aton(each[socket.AF_INET]) for each in (CLIENT, SERVER))
    quoted = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0, *ends)
    quoted += struct.pack("!HHI12x", port, PORT, number)
    body = struct.pack("!BBHI", UNREACHABLE, HOST, 0, 0) + quoted
    return struct.pack("!BBHI", UNREACHABLE, HOST, checksum(body), 0) + quoted


@contextlib.contextmanager
def connected(engine: str) -> Iterator[tuple[Rig, Watch, socket.socket]]:
    """The client's end of a connection that has carried a byte."""
    with (
        contextlib.closing(Rig()) as rig,
        watching(rig.client, watch=DeathWatch(engine)) as watch,
        rig.server.inside(lambda: socket.create_server((SERVER[socket.AF_INET], PORT))) as listener,
        rig.client.inside(socket.socket) as near,
    ):
        near.connect((SERVER[socket.AF_INET], PORT))
        with listener.accept()[0] as far:
            near.sendall(b"x")
            assert far.recv(1) == b"x"
            yield rig, watch, near


@contextlib.contextmanager
def lost(engine: str, how: str) -> Iterator[tuple[Rig, Watch, socket.socket]]:
    """A connection whose packets the firewall treats so; the client has sent one."""
    with connected(engine) as (rig, watch, near):
        rig.treat("firewall", how, PORT)
        near.sendall(b"lost")
        yield rig, watch, near


def send(rig: Rig, *errors: bytes) -> None:
    """Send the client these, from the second router, which did not drop anything."""
    with rig.r2.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)) as raw:
        for each in errors:
            raw.sendto(each, (CLIENT[socket.AF_INET], 0))


def end(watch: Watch, near: socket.socket) -> Column:
    """The one end, after the kernel gave the connection up."""
    with contextlib.suppress(OSError):
        near.settimeout(60)
        near.recv(1)
    near.close()
    row: Column = watch.until(lambda ended: len(ended) > 0)[0]
    return row


def guesses(near: socket.socket) -> list[bytes]:
    """Those of others' ports, and of ours with any other number; the kernel takes none of them."""
    port, number = near.getsockname()[1], sequence_number(near, SENT)
    far_off = [(number + ahead) & 0xFFFFFFFF for ahead in (1, 1000, 1 << 31, -1000)]
    return [*(forged(port ^ bit, number) for bit in (1, 2, 1024)), *(forged(port, each) for each in (0, *far_off))]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_error_about_another_packet_makes_no_end_unreachable(engine: str) -> None:
    with lost(engine, "drop_there") as (rig, watch, near):
        send(rig, *guesses(near))
        row = end(watch, near)
    assert [int(row[name]) for name in ("soft_error", "icmp_type", "router_low")] == [0, 0, 0]


def test_an_error_about_another_packet_than_the_probe_makes_no_end_unreachable() -> None:
    """TCP takes none about a probe, so that its number decides alone."""
    with connected("bpf") as (rig, watch, near):
        rig.treat("firewall", "drop_there", PORT)
        keepalive(near, 1)
        send(rig, *guesses(near))
        row = end(watch, near)
    assert row["probes"] == 2
    assert [int(row[name]) for name in ("soft_error", "icmp_type", "router_low")] == [0, 0, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_router_named_is_that_of_an_error_about_the_connection(engine: str) -> None:
    """Forged ones come last."""
    with lost(engine, "unreachable") as (rig, watch, near):
        with contextlib.suppress(OSError):
            near.settimeout(60)
            near.recv(1)
        send(rig, *guesses(near)[:4])
        near.close()
        (row,) = watch.until(lambda ended: len(ended) > 0)
    assert row["icmp_type"] == UNREACHABLE
    router = socket.inet_ntoa(struct.pack("!I", int(row["router_low"]) & 0xFFFFFFFF))
    assert router == FIREWALL[socket.AF_INET]


FLOOD = [forged(port, number=1) for port in range(10_000, 12_000)]  # about no connection of this host
AT_ONCE = 100  # packets that find room


def test_a_flood_of_errors_about_no_connection_does_not_drive_out_the_router() -> None:
    """They come after the true one, and the daemon reads them as they come."""
    with lost("bpf", "unreachable") as (rig, watch, near):
        with contextlib.suppress(OSError):
            near.settimeout(60)
            near.recv(1)
        for first in range(0, len(FLOOD), AT_ONCE):
            send(rig, *FLOOD[first : first + AT_ONCE])
            watch.wait(0)
        near.close()
        (row,) = watch.until(lambda ended: len(ended) > 0)
    assert row["icmp_type"] == UNREACHABLE
    assert socket.inet_ntoa(struct.pack("!I", int(row["router_low"]) & 0xFFFFFFFF)) == FIREWALL[socket.AF_INET]


def test_a_flood_of_errors_about_no_connection_leaves_room_for_that_of_the_router() -> None:
    """They come before the true one, while nothing has ended and nobody reads them; one port has a listener."""
    with (
        connected("bpf") as (rig, watch, near),
        rig.client.inside(lambda: socket.create_server((CLIENT[socket.AF_INET], 10_000))),
    ):
        send(rig, *FLOOD, *FLOOD[:1] * len(FLOOD))
        rig.treat("firewall", "unreachable", PORT)
        near.sendall(b"lost")
        row = end(watch, near)
    assert row["icmp_type"] == UNREACHABLE
