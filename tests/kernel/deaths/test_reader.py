"""What BPF tells of connections that end, and of which it tells nothing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from socket import (
    AF_INET,
    IPPROTO_TCP,
    MSG_PEEK,
    SHUT_RDWR,
    SHUT_WR,
    SO_LINGER,
    SOL_SOCKET,
    TCP_CORK,
    create_connection,
    create_server,
    socket,
)

import numpy as np
import pytest

from keepaliveD.model.deaths import Reset
from keepaliveD.platforms import touching
from keepaliveD.platforms.base import DeathWatch
from keepaliveD.platforms.linux.bpf import libbpf
from keepaliveD.platforms.linux.bpf.connect import cgroup_root
from keepaliveD.platforms.linux.bpf.deaths import BpfDeaths
from keepaliveD.platforms.linux.deaths import destroyed
from keepaliveD.platforms.linux.deaths.icmp import IcmpErrors
from keepaliveD.platforms.linux.deaths.reader import BpfReader
from keepaliveD.platforms.linux.netstat import OpenEnds
from tests.kernel.deaths.rig import ACK, CLIENT, RECEIVED, RST, SERVER, SYN, Rig, Segment, sequence_number, vanish
from tests.kernel.deaths.watching import now, watching
from tests.support.processes import next_line
from tests.support.rig import DIE_WITH_US, Namespace

NAMED = """
import ctypes, sys, signal
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
print(flush=True)
signal.pause()
"""
WORKER = (sys.executable, "-c", NAMED, touching.WORKER.decode())
NO_LINGER = struct.pack("ii", 1, 0)


def pair(host: Namespace) -> tuple[socket, socket]:
    """Both ends of a connection over the loopback interface."""

    def connect() -> tuple[socket, socket]:
        with create_server(("127.0.0.1", 0)) as listener:
            near = create_connection(listener.getsockname())
            return near, listener.accept()[0]

    return host.inside(connect)


def test_a_reset_is_reported_at_both_ends_with_the_program_that_caused_it() -> None:
    with Namespace() as host, watching(host) as watch:
        near, far = pair(host)
        port = near.getsockname()[1]
        far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        far.close()
        ended = watch.until(lambda ended: len(ended) == 2)
        near.close()
        by_port = {int(row["local_port"]): row for row in ended}
        ours, theirs = by_port.pop(port), next(iter(by_port.values()))
    assert (ours["reset"], ours["error"], ours["closer_pid"]) == (Reset.RECEIVED, 104, 0)
    assert (ours["reset_local"], ours["reset_timestamps"], ours["timestamps"]) == (0, 1, 1)
    assert (theirs["reset"], theirs["error"]) == (Reset.NONE, 0)
    assert theirs["closer"].decode() == Path("/proc/self/comm").read_text().strip()
    assert theirs["sent_reset"]


def test_a_worker_that_is_killed_with_the_last_descriptor_is_not_taken_for_the_program() -> None:
    """It hung with a duplicate in hand, and its program has ended meanwhile."""
    with Namespace() as host, watching(host) as watch:
        pairs = [pair(host) for _ in range(2)]  # one ends at once, with unread data, and one at the peer's answer
        pairs[0][1].sendall(b"unread")
        held, ports = [near.fileno() for near, _ in pairs], [near.getsockname()[1] for near, _ in pairs]
        with subprocess.Popen([*DIE_WITH_US, *WORKER], pass_fds=held, stdout=subprocess.PIPE, text=True) as worker:
            next_line(worker)
            for near, _ in pairs:
                near.close()
            worker.kill()
        for _, far in pairs:
            far.close()
        near, far = pair(host)  # ends last: by then all others are reported
        far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        far.close()
        watch.until(lambda ended: (ended["local_port"] == near.getsockname()[1]).any())
        near.close()
    ours = watch.ended[np.isin(watch.ended["local_port"], ports)]
    assert not (ours["signal"] | ours["exiting"] | ours["closer_pid"]).any(), ours
    assert ours["by_kernel"].tolist() == [1]


def test_an_ordinary_close_is_only_counted() -> None:
    with Namespace() as host, watching(host) as watch:
        for _ in range(20):
            near, far = pair(host)
            near.close()
            far.close()
        for first_to_close in (0, 1):  # of two, one of which has closed its direction, which the other knows
            both = pair(host)
            both[0].shutdown(SHUT_WR)
            assert both[1].recv(1) == b""
            both[first_to_close].close()
            both[1 - first_to_close].close()
        late, far = pair(host)
        late.shutdown(SHUT_WR)
        far.sendall(b"read after the end")
        far.close()
        assert late.recv(1, MSG_PEEK)
        near, far = pair(host)  # ends last: by then all others are reported
        far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        far.close()
        watch.until(lambda ended: len(ended) == 2)
        near.close()
        late.close()
    assert len(watch.ended) == 2
    assert watch.ordinary >= 46


def test_a_peer_that_answers_a_close_after_a_silence_with_its_own_is_only_counted() -> None:
    """The program has closed, or shut both directions, and not the peer; of the peer's end it is this end that has."""
    with Namespace() as host, watching(host, watch=DeathWatch("bpf", idle=0.5)) as watch:
        closed, shut = pair(host), pair(host)
        ports = {near.getsockname()[1] for near, _ in (closed, shut)}
        time.sleep(0.6)  # a silence is a time in which nothing happens
        closed[0].close()
        shut[0].shutdown(SHUT_RDWR)
        for _, far in (closed, shut):
            assert far.recv(1) == b""
            far.close()
        shut[0].close()
        near, far = pair(host)  # ends last: by then all others are reported
        far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        far.close()
        watch.until(lambda ended: (ended["error"] == errno.ECONNRESET).any())
        near.close()
    assert ports <= set(watch.ended["remote_port"].tolist())
    assert not ports & set(watch.ended["local_port"].tolist()), watch.ended
    assert watch.ordinary >= 2


def test_a_peer_that_closes_together_with_its_last_words_after_a_silence_is_only_counted() -> None:
    """As a server does that has thought for long: the connection was not idle, it was waited for."""
    with Namespace() as host, watching(host, watch=DeathWatch("bpf", idle=0.5)) as watch:
        near, far = pair(host)
        time.sleep(0.6)  # a silence is a time in which nothing happens
        far.setsockopt(IPPROTO_TCP, TCP_CORK, 1)
        far.sendall(b"answer")
        far.close()
        assert near.recv(7) == b"answer"
        near.close()
        near, far = pair(host)  # ends last: by then all others are reported
        far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        far.close()
        watch.until(lambda ended: len(ended) >= 2)
        near.close()
    assert len(watch.ended) == 2
    assert not watch.ended["fin_first"].any()


def test_where_only_its_own_namespace_is_watched_the_ends_of_others_are_in_no_number() -> None:
    with (
        Namespace() as host,
        Namespace() as other,
        watching(host, other, watch=DeathWatch("bpf", everywhere=False)) as watch,
    ):
        _abort(other, 3)
        for _ in range(20):
            for each in pair(other):
                each.close()
        _abort(host, 1)
        watch.until(lambda ended: len(ended) == 2)
    assert set(watch.ended["netns"].tolist()) == {host.inode}
    assert (watch.ordinary, watch.lost) == (0, 0)


def test_without_packets_a_reset_is_reported_as_unseen() -> None:
    with Namespace() as host, watching(host, watch=DeathWatch("bpf", packets=False)) as watch:
        near, far = pair(host)
        far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        far.close()
        ended = watch.until(lambda ended: len(ended) == 2)
        near.close()
    assert sorted(ended["reset"].tolist()) == [Reset.NONE, Reset.UNSEEN]
    assert not ended["reset_ttl"].any()


def test_ends_for_which_there_is_no_room_are_counted() -> None:
    with Namespace() as host, watching(host) as watch:
        _abort(host, MORE_THAN_FIT)
        watch.until(lambda _: watch.lost > 0)
        seen = 0
        while len(watch.ended) != seen or watch.reader.due() is not None:
            seen = len(watch.ended)
            watch.wait(2)
    assert len(watch.ended) + watch.lost >= 2 * MORE_THAN_FIT


class Blind(BpfDeaths):
    """Programs that do not see what ends."""

    def seen_open(self) -> int:
        return 0


def test_ends_that_only_the_kernel_has_counted_are_counted() -> None:
    with Namespace() as host:
        reader = host.inside(lambda: BpfReader(Blind(None, 0), IcmpErrors(), OpenEnds(Path("/"))))
        with contextlib.closing(reader):
            assert reader.take(now()).lost == 0
            _abort(host, 3)
            assert sum(reader.take(now()).lost for _ in range(3)) == 6


class Interrupted(BpfDeaths):
    """Programs that are not run for some changes, as if interrupts had stopped them each time."""

    skips = 0

    def skipped(self) -> int:
        return self.skips


def test_changes_for_which_the_programs_were_not_run_are_counted_as_ends() -> None:
    """Of closed connections and of other namespaces, the kernel does not say whether these ended."""
    with Namespace() as host:
        programs = Interrupted(None, 0)
        reader = host.inside(lambda: BpfReader(programs, IcmpErrors(), OpenEnds(Path("/"))))
        with contextlib.closing(reader):
            assert reader.take(now()).lost == 0
            programs.skips = 2
            assert [reader.take(now()).lost for _ in range(2)] == [2, 0]


def test_a_connection_that_only_works_or_is_idle_costs_no_storage() -> None:
    """Neither over the network nor over loopback; what may explain its end does."""
    with contextlib.closing(Rig()) as rig, contextlib.closing(BpfDeaths(cgroup_root(Path("/")), 1.0)) as programs:
        address = (SERVER[AF_INET], 5000)
        with rig.server.inside(lambda: create_server(address)) as listener, rig.client.inside(socket) as near:
            near.connect(address)
            far, _ = listener.accept()
            beside = pair(rig.client)
            with far, beside[0], beside[1]:
                for one, other in ((near, far), beside):
                    for octets in (b"x", b"y" * 100_000, b"z"):
                        one.sendall(octets)
                        left = len(octets)
                        while left:
                            left -= len(other.recv(left))
                        other.sendall(b"answer")
                        assert one.recv(6)
                connections = (near, far, *beside)
                assert [has_storage(programs, each) for each in connections] == [False] * 4
                rig.forge_reset(near, address[1], hop_limit=63, ahead=1)
                near.sendall(b"alive")
                assert far.recv(5) == b"alive"
                assert [has_storage(programs, each) for each in connections] == [True, False, False, False]


def has_storage(programs: BpfDeaths, connection: socket) -> bool:
    """Whether the programs have kept something in this socket (BPF_MAP_TYPE_SK_STORAGE, by its descriptor)."""
    key, value = ctypes.c_int(connection.fileno()), ctypes.create_string_buffer(256)
    lookup = ctypes.CDLL(libbpf.LIBRARY, use_errno=True).bpf_map_lookup_elem
    if lookup(programs._object.map_fd("evidences"), ctypes.byref(key), value) == 0:
        return True
    assert ctypes.get_errno() == errno.ENOENT
    return False


MORE_THAN_FIT = 12_000  # connections: 4 MB have room for 18,724 ends


def _abort(host: Namespace, count: int) -> None:
    """Open and abort so many connections."""

    def work() -> None:
        with create_server(("127.0.0.1", 0)) as listener:
            for _ in range(count):
                with create_connection(listener.getsockname()) as near:
                    far = listener.accept()[0]
                    far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
                    far.close()
                    with contextlib.suppress(ConnectionResetError):
                        near.recv(1)  # until it is told: closed before, it would end in the ordinary way

    host.inside(work)


def test_forged_resets_that_tcp_refuses_end_nothing_and_hide_nothing() -> None:
    """Neither of them is at the number that the socket expects next: RFC 5961."""
    with contextlib.closing(Rig()) as rig, watching(rig.client) as watch:
        address = (SERVER[AF_INET], 5000)
        with rig.server.inside(lambda: create_server(address)) as listener, rig.client.inside(socket) as near:
            near.connect(address)
            far = listener.accept()[0]
            for ahead in (-1, 1, 1_000, 1 << 30):
                rig.forge_reset(near, address[1], hop_limit=63, ahead=ahead)
            rig.forge_reset(near, address[1] + 1, hop_limit=63)  # of a connection that there is not
            near.sendall(b"alive")
            assert far.recv(5) == b"alive"
            far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
            far.close()
            (ours,) = watch.until(lambda ended: len(ended) == 1)
    assert (ours["reset"], ours["reset_ttl"], ours["reset_timestamps"]) == (Reset.RECEIVED, 61, 1)


MILLION = 1_000_000
OF_EACH, KINDS = 2_000, 5  # segments that differ


def test_a_million_forged_segments_end_nothing_and_hide_nothing_uncounted() -> None:
    """Of a wrong number, within the window, of no connection, to a listener, and SYNs.

    Without BPF so many leave no room for the packet that does end the connection; then its end is counted as lost.
    """
    own, by_chance = 6000, Random(1).getrandbits
    with (
        contextlib.closing(Rig()) as rig,
        watching(rig.client) as watch,
        watching(rig.client, watch=DeathWatch("netlink")) as without_bpf,
    ):
        address = (SERVER[AF_INET], 5000)
        with (
            rig.server.inside(lambda: create_server(address)) as listener,
            rig.client.inside(lambda: create_server((CLIENT[AF_INET], own))),
            rig.client.inside(socket) as near,
        ):
            near.connect(address)
            far = listener.accept()[0]
            port, expected = near.getsockname()[1], sequence_number(near, RECEIVED)
            kinds: tuple[tuple[Callable[[], int], int, int], ...] = (
                (lambda: expected + (1 << 31) + by_chance(30), port, RST),
                (lambda: expected + 1 + by_chance(14), port, RST),
                (lambda: by_chance(32), 1, RST),
                (lambda: by_chance(32), own, RST),
                (lambda: by_chance(32), port, SYN),
            )
            flood = [
                Segment(address[1], target, number() & 0xFFFFFFFF, flags)
                for _ in range(OF_EACH)
                for number, target, flags in kinds
            ]
            rig.flood(flood, hop_limit=63, times=MILLION // (OF_EACH * KINDS))
            near.sendall(b"alive")
            assert far.recv(5) == b"alive"
            watch.wait(0)
            assert len(watch.ended) == len(without_bpf.ended) == 0
            far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
            far.close()
            (ours,) = watch.until(lambda ended: len(ended) == 1)
        without_bpf.until(lambda ended: len(ended) + without_bpf.lost > 0)
    assert (ours["reset"], ours["reset_ttl"], ours["reset_timestamps"]) == (Reset.RECEIVED, 61, 1)
    assert len(without_bpf.ended) + without_bpf.lost == 1


def test_without_bpf_forged_resets_end_nothing_and_hide_nothing() -> None:
    """Whoever knows the ports, and not the numbers, makes no end of an ordinary close, nor hides a reset."""
    with contextlib.closing(Rig()) as rig, watching(rig.client, watch=DeathWatch("netlink")) as watch:
        address = (SERVER[AF_INET], 5000)
        with rig.server.inside(lambda: create_server(address)) as listener:
            for aborts in (False, True):
                with rig.client.inside(socket) as near:
                    near.connect(address)
                    far = listener.accept()[0]
                    for ahead in (-1, 1, 1_000, 1 << 30):
                        rig.forge_reset(near, address[1], hop_limit=63, ahead=ahead)
                    rig.forge_reset(near, address[1] + 1, hop_limit=63)  # of a connection that there is not
                    near.sendall(b"alive")
                    assert far.recv(5) == b"alive"
                    if aborts:
                        far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
                    far.close()
                    with contextlib.suppress(ConnectionResetError):
                        assert near.recv(1) == b""
            ended = watch.until(lambda ended: len(ended) > 0 and watch.ordinary > 0)
    (ours,) = ended
    assert (ours["reset"], ours["reset_ttl"], ours["peer_ttl"]) == (Reset.RECEIVED, 61, 61)
    assert watch.ordinary >= 1  # the connection that the rig made before may end late


MANY = 1_500  # more packets than wait for a reader


def _be_refused(host: Namespace, count: int) -> None:
    """Connect so often to a port of this host that nobody listens at: each is a SYN and a reset."""

    def work() -> None:
        for port in range(count):
            with socket() as one:
                one.bind(("127.0.0.1", 20_000 + port))
                one.connect_ex(("127.0.0.1", 1))

    host.inside(work)


def _open_and_close(host: Namespace, count: int) -> None:
    def work() -> None:
        with create_server(("127.0.0.1", 0)) as listener:
            for _ in range(count):
                with create_connection(listener.getsockname()):
                    listener.accept()[0].close()

    host.inside(work)


@pytest.mark.parametrize("flood", [_be_refused, _open_and_close, _abort])
def test_without_bpf_a_flood_over_loopback_hides_no_reset_of_the_network(
    flood: Callable[[Namespace, int], None],
) -> None:
    """Any user may do that: it takes no privilege."""
    with contextlib.closing(Rig()) as rig, watching(rig.client, watch=DeathWatch("netlink")) as watch:
        address = (SERVER[AF_INET], 5000)
        with rig.server.inside(lambda: create_server(address)) as listener, rig.client.inside(socket) as near:
            near.connect(address)
            far = listener.accept()[0]
            for _ in range(3):
                flood(rig.client, MANY)
                watch.wait(0)
            flood(rig.client, MANY)
            far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
            far.close()
            with contextlib.suppress(ConnectionResetError):
                near.recv(1)
        ended = watch.until(lambda ended: address[1] in ended["remote_port"])  # one of the flood may have our own port
    (ours,) = ended[ended["remote_port"] == address[1]]
    assert (ours["reset"], ours["reset_ttl"], ours["peer_ttl"]) == (Reset.RECEIVED, 61, 61)


def test_without_bpf_ends_whose_reset_was_not_read_in_time_are_counted() -> None:
    with Namespace() as host, watching(host, watch=DeathWatch("netlink")) as watch:
        _open_and_close(host, MANY)
        _abort(host, MANY)
        watch.until(lambda _: watch.ordinary + len(watch.ended) + watch.lost >= 4 * MANY)
    assert MANY <= len(watch.ended) + watch.lost < MANY + 100, "an ordinary close is none of them"


def test_without_bpf_each_end_for_which_there_is_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destroyed, "ROOM", 1 << 12)
    with Namespace() as host, watching(host, watch=DeathWatch("netlink")) as watch:
        _abort(host, MANY)
        _open_and_close(host, 1)  # an overflow shows with the next one
        watch.until(lambda _: watch.ordinary + len(watch.ended) + watch.lost >= 2 * MANY)
    assert watch.lost > 0


def test_without_bpf_a_reset_of_an_older_connection_is_not_sure() -> None:
    with contextlib.closing(Rig()) as rig:
        address = (SERVER[AF_INET], 5000)
        with rig.server.inside(lambda: create_server(address)) as listener, rig.client.inside(socket) as near:
            near.connect(address)
            far = listener.accept()[0]
            with watching(rig.client, watch=DeathWatch("netlink")) as watch:
                far.setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
                far.close()
                with contextlib.suppress(ConnectionResetError):
                    near.recv(1)
                near.close()
                (ours,) = watch.until(lambda ended: len(ended) > 0)
    assert (ours["reset"], ours["reset_ttl"], ours["peer_ttl"]) == (Reset.UNCHECKED, 61, 0)


def test_a_stranger_cannot_teach_a_hop_limit_in_the_name_of_a_peer() -> None:
    with contextlib.closing(Rig()) as rig, watching(rig.client) as watch:
        address, own = (SERVER[AF_INET], 5000), (CLIENT[AF_INET], 6000)
        with (
            rig.server.inside(lambda: create_server(address)) as listener,
            rig.client.inside(lambda: create_server(own)),
            rig.client.inside(socket) as near,
        ):
            near.connect(address)
            vanish(listener.accept()[0])
            rig.forge(Segment(4000, own[1], number=1, flags=ACK), hop_limit=50)
            near.sendall(b"late")
            ended = watch.until(lambda ended: len(ended) == 1)
    assert (ended["reset_ttl"][0], ended["peer_ttl"][0]) == (61, 61)
