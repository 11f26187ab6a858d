"""All engines read the same sockets: what one says, the others say, or that they do not know."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SHUT_WR,
    SO_BINDTODEVICE,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_RCVBUF,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_LINGER2,
    AddressFamily,
    create_server,
    socket,
)

import numpy as np
import pytest

from keepaliveD.model.errors import Exit, KernelError, Unsupported
from keepaliveD.model.keepalive import Own
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Column, Sockets, Switch, TcpState, Timer
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf import libbpf, walker
from keepaliveD.platforms.linux.bpf.reader import BpfIterator
from keepaliveD.platforms.linux.bpf.walk import STEPS, Walk
from keepaliveD.platforms.linux.bpf.walker import BpfWalker
from keepaliveD.platforms.linux.reading.cookies import Cookies
from keepaliveD.platforms.linux.reading.engine import Engine, Gaps
from keepaliveD.platforms.linux.reading.netlink import Netlink
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.threads import Task
from tests.support.descriptors import open_descriptors
from tests.support.patience import SOON
from tests.support.processes import Home, configuration
from tests.support.rig import INTERVAL, PROBES, TIME, UNTUNED, Namespace
from tests.support.unprivileged import as_nobody
from tests.support.versions import ITERATOR, LASTING, OWN_TABLES, RUNNING, WALK, since

SO_COOKIE = 57  # include/uapi/asm-generic/socket.h
SOMEBODY = 4711  # a user
PEERS: list[tuple[AddressFamily, str]] = [(AF_INET, "127.0.0.1"), (AF_INET6, "::1"), (AF_INET6, "::ffff:127.0.0.1")]
SYSTEM = {TIME: 611, INTERVAL: 31, PROBES: 4}
HOLD = str(Path(__file__).parents[2] / "bench/hold.py")
MANY = 20_000  # more than twice what fits into the memory of any of them
CROWD = 1_100  # connections: more ends than a bucket may have
FEW_WALKS = 4  # one suffices where nothing changes meanwhile
TICK = 0.011  # seconds; at 100 Hz, the fewest that kernels have

SAME = (
    *("cgroup", "local_high", "local_low", "remote_high", "remote_low", "netns", "inode", "uid", "interface"),
    *("segments_in", "segments_out", "local_port", "remote_port", "state", "timer"),
)
AGES = ("since_sent", "since_received", "since_acked")
TOLD_BY_BPF = ("keepidle", "keepintvl", "keepalive", "keepcnt", "own")

TIMERS = {Timer.OFF, Timer.RETRANSMIT, Timer.KEEPALIVE, Timer.ZERO_WINDOW}
OPTIONS = {Own.IDLE: (TCP_KEEPIDLE, 42), Own.INTERVAL: (TCP_KEEPINTVL, 7), Own.PROBES: (TCP_KEEPCNT, 3)}
Made = tuple[bool, Own]  # keepalive on, what is set on the socket itself
BARE: Made = (False, Own(0))
ON: Made = (True, Own(0))
SETTINGS: list[Made] = [(on, Own(own)) for on in (False, True) for own in range(8)]


BPF = [
    pytest.param(BpfWalker, id="walk", marks=since(WALK)),
    pytest.param(lambda ignore=(): BpfIterator(ignore=ignore), id="iterator", marks=since(ITERATOR)),
]
by_bpf = pytest.mark.parametrize("engine", BPF)
by_each = pytest.mark.parametrize("engine", [*BPF, pytest.param(Netlink, id="netlink")])


COME_AND_GO = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(flush=True)
while True:
    with socket.create_connection(server.getsockname()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + 7 * [0]))
        server.accept()[0].close()
"""


TALK = """
import socket
server = socket.create_server(("127.0.0.1", 0), backlog=500)
clients = [socket.create_connection(server.getsockname()) for _ in range(500)]
ends = [end for client in clients for end in (client, server.accept()[0])]
print(flush=True)
while True:
    for end in ends:
        end.send(b"word")
    for end in ends:
        end.recv(4)
"""

COME_AND_GO = """
import socket, struct
server = socket.create_server(("127.0.0.1", 0), backlog=50)
print(flush=True)
while True:
    clients = [socket.create_connection(server.getsockname()) for _ in range(20)]
    for end in (*clients, *(server.accept()[0] for _ in clients)):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
"""


@dataclass
class Host:
    """Namespaces full of connections of each kind, and all that they are made of."""

    stack: ExitStack
    namespaces: dict[int, Namespace] = field(default_factory=dict)  # by inode
    held: dict[int, tuple[socket, Own]] = field(default_factory=dict)  # by cookie

    def namespace(self, maker: Namespace | None = None) -> Namespace:
        made = self.stack.enter_context(Namespace(maker))
        self.namespaces[made.inode] = made
        return made

    def connect(
        self,
        where: Namespace,
        peer: tuple[AddressFamily, str] = PEERS[0],
        made: Made = BARE,
        buffer: int = 0,
    ) -> tuple[socket, socket]:
        """Both ends of a connection; the first has these settings, `buffer` is what the other receives into."""
        family, address = peer
        anywhere = "::" if family == AF_INET6 else "0.0.0.0"
        with where.inside(
            lambda: create_server((anywhere, 0), family=family, dualstack_ipv6=family == AF_INET6)
        ) as server:
            if buffer:
                server.setsockopt(SOL_SOCKET, SO_RCVBUF, buffer)
            client = self.stack.enter_context(where.inside(lambda: socket(family)))
            client.connect((address, server.getsockname()[1]))
            other = self.stack.enter_context(server.accept()[0])
        on, own = made
        client.setsockopt(SOL_SOCKET, SO_KEEPALIVE, on)
        for one in own:
            client.setsockopt(IPPROTO_TCP, *OPTIONS[one])
        for end, whose in ((client, own), (other, Own(0))):
            self.held[cookie(end)] = (end, whose)
        return client, other


def cookie(sock: socket) -> int:
    return int.from_bytes(sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8), "little")


@pytest.fixture
def host() -> Iterator[Host]:
    with ExitStack() as stack:
        host = Host(stack)
        first, other, cut_off = (host.namespace() for _ in range(3))
        other.keepalive = SYSTEM
        places = [first, other]
        if RUNNING >= OWN_TABLES:
            other.set_sysctl("net.ipv4.tcp_child_ehash_entries", 1024)
            places.append(host.namespace(other))
            assert places[-1].sysctl("net.ipv4.tcp_ehash_entries") > 0, "its sockets are not in a table of its own"
        for where in places:
            for peer in PEERS:
                host.connect(where, peer)
                host.connect(where, peer)[0].shutdown(SHUT_WR)  # FIN_WAIT2, CLOSE_WAIT
            for made in SETTINGS:
                host.connect(where, made=made)
        os.fchown(host.connect(first)[0].fileno(), SOMEBODY, -1)
        bound, _ = host.connect(first)
        bound.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"lo")
        stuff(host.connect(first, buffer=2048)[0])
        for end in host.connect(first):  # TIME_WAIT, which no program holds
            del host.held[cookie(end)]
            end.close()
        closing = [host.connect(cut_off, peer, ON)[0] for peer in PEERS]
        cut_off.ip("link set lo down")
        for end in closing:
            end.shutdown(SHUT_WR)  # FIN_WAIT1, with a timer for the next try
        yield host


def stuff(sock: socket) -> None:
    """Send until the peer takes no more."""
    sock.setblocking(False)
    deadline = time.monotonic() + SOON
    while True:
        try:
            sock.send(b"x" * 65536)
        except BlockingIOError:
            break
        assert time.monotonic() < deadline


def of_host(host: Host, sockets: Sockets) -> dict[str, Column]:
    """The columns of this host's sockets, ordered by cookie."""
    mine = sockets.select(np.isin(sockets["netns"], list(host.namespaces)))
    order = np.argsort(mine["cookie"])
    return {name: mine[name][order] for name in ("cookie", "expires", *SAME, *AGES, *TOLD_BY_BPF)}


@dataclass(frozen=True)
class Looks:
    """BPF's look, between two of netlink in which nothing but the time changed."""

    before: dict[str, Column]
    bpf: dict[str, Column]
    after: dict[str, Column]


@pytest.fixture(params=BPF)
def looks(host: Host, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Looks:
    """All timers are there that should be, and none was set anew meanwhile.

    No other network namespaces are read: on a busy machine all those of other tests would take too long.
    """
    ours = {one.inode: f"/proc/{one.pid}/ns/net" for one in host.namespaces.values()}
    monkeypatch.setattr(namespaces, "survey", lambda root: (namespaces.only_here(root) | ours, False))
    with (
        contextlib.closing(SocketWatcher(engine=Netlink())) as netlink,
        contextlib.closing(SocketWatcher(engine=request.param())) as bpf,
    ):
        return awaited(
            lambda: Looks(*(of_host(host, watcher.scan(0.0).sockets) for watcher in (netlink, bpf, netlink)))
        )


def awaited(look: Callable[[], Looks]) -> Looks:
    deadline = time.monotonic() + SOON
    while True:
        looks = look()
        quiet = looks.before["cookie"].tolist() == looks.after["cookie"].tolist() and all(
            (looks.before[name] == looks.after[name]).all() for name in SAME
        )
        quiet = quiet and bool((looks.after["expires"] <= looks.before["expires"]).all())
        if quiet and set(looks.before["timer"].tolist()) == TIMERS:
            return looks
        assert time.monotonic() < deadline, set(looks.before["timer"].tolist())


def test_there_is_a_socket_of_every_kind(host: Host, looks: Looks) -> None:
    """Or the others would compare nothing."""
    assert set(looks.before["cookie"].tolist()) == set(host.held)
    assert set(looks.before["state"].tolist()) == set(TcpState)
    assert set(looks.before["netns"].tolist()) == set(host.namespaces)
    assert SOMEBODY in looks.before["uid"]
    assert len(set(looks.before["remote_high"].tolist())) == 1  # ::1 and v4-mapped
    assert len(set(looks.before["remote_low"].tolist())) == 2


def test_both_engines_see_the_same_sockets(looks: Looks) -> None:
    """By their cookies, which both take from one counter of the kernel."""
    assert looks.bpf["cookie"].tolist() == looks.before["cookie"].tolist()


def test_both_engines_say_the_same(looks: Looks) -> None:
    """Whatever is judged, logged or asked for later depends on it."""
    assert [name for name in SAME if looks.bpf[name].tolist() != looks.before[name].tolist()] == []


def test_ages_lie_between_those_seen_before_and_after(looks: Looks) -> None:
    """Within one tick of the kernel's clock."""
    for name in AGES:
        assert (looks.bpf[name] >= looks.before[name] - TICK).all(), name
        assert (looks.bpf[name] <= looks.after[name] + TICK).all(), name


def test_timers_expire_between_those_seen_before_and_after(looks: Looks) -> None:
    """Of every kind: retransmission, keepalive, zero window."""
    assert (looks.bpf["expires"] <= looks.before["expires"] + TICK).all()
    assert (looks.bpf["expires"] >= looks.after["expires"] - TICK).all()


def test_bpf_knows_the_keepalive_settings_as_the_socket_itself_tells_them(host: Host, looks: Looks) -> None:
    """Its own, and where it has none those of its namespace; and which are which."""
    told = zip(*(looks.bpf[name].tolist() for name in ("cookie", *TOLD_BY_BPF)), strict=True)
    assert {number: rest for number, *rest in told} == {
        number: [
            sock.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE),
            sock.getsockopt(IPPROTO_TCP, TCP_KEEPINTVL),
            Switch.ON if sock.getsockopt(SOL_SOCKET, SO_KEEPALIVE) else Switch.OFF,
            sock.getsockopt(IPPROTO_TCP, TCP_KEEPCNT),
            own,
        ]
        for number, (sock, own) in host.held.items()
    }
    assert SYSTEM[TIME] in looks.bpf["keepidle"]


def test_netlink_says_that_it_does_not_know_them(looks: Looks) -> None:
    """Rather than guess."""
    assert [name for name in TOLD_BY_BPF if looks.before[name].any()] == []


def test_netlink_tells_where_the_idle_time_has_changed_that_its_sockets_may_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "keepaliveD.platforms.linux.reading.netlink.MOST_IDLE_TIMES", 1000
    )  # others have namespaces here, too
    with Namespace() as one, Namespace() as other:
        watcher = SocketWatcher(engine=Netlink())
        try:
            ours = {one.inode, other.inode}  # others change theirs meanwhile
            assert not ours.intersection(watcher.scan(0.0).changed_idle_time)
            one.set_sysctl(TIME, other.sysctl(TIME) + 100)
            assert ours.intersection(watcher.scan(1.0).changed_idle_time) == {one.inode}
            assert not ours.intersection(watcher.scan(2.0).changed_idle_time)
        finally:
            watcher.close()


@by_bpf
def test_sockets_whose_peers_are_ignored_never_leave_the_kernel(host: Host, engine: Callable[..., Engine]) -> None:
    """Exactly those: of v4-mapped ones too."""
    ignored = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    with contextlib.closing(SocketWatcher(engine=engine(ignore=ignored))) as watcher:
        seen = of_host(host, watcher.scan(0.0).sockets)
    assert set(seen["cookie"].tolist()) == {
        number for number, (sock, _) in host.held.items() if sock.getpeername()[0] == "::1"
    }


@by_each
def test_only_our_own_namespace_is_read_where_that_is_wanted(host: Host, engine: Callable[..., Engine]) -> None:
    """All of them share a table."""
    with contextlib.closing(SocketWatcher(engine=engine(), all_namespaces=False)) as watcher:
        assert len(of_host(host, watcher.scan(0.0).sockets)["cookie"]) == 0


@by_each
def test_a_namespace_whose_process_has_left_it_is_entered_at_the_next_scan(
    host: Host, engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ip netns add` goes back to its own one, and whoever follows it then comes to that one as well."""
    survey = namespaces.survey
    gone_back = {one.inode: "/proc/self/ns/net" for one in host.namespaces.values()}
    with contextlib.closing(SocketWatcher(engine=engine())) as watcher:
        monkeypatch.setattr(namespaces, "survey", lambda root: (survey(root)[0] | gone_back, False))
        assert len(of_host(host, watcher.scan(0.0).sockets)["cookie"]) == 0
        monkeypatch.undo()
        assert len(of_host(host, watcher.scan(1.0).sockets)["cookie"]) > 0


@by_each
def test_a_namespace_that_was_not_entered_is_not_read(host: Host, engine: Callable[..., Engine]) -> None:
    """Nobody could say which settings and interfaces are there."""
    first, second, *_ = host.namespaces.values()
    with contextlib.closing(engine()) as reading:
        for one in (first, second):
            one.inside(partial(reading.enter, one.inode))
        sockets = Sockets()
        assert reading.read(sockets) == {}
        assert set(sockets["netns"].tolist()) == {first.inode, second.inode}
        reading.leave(first.inode)
        sockets.truncate(0)
        assert reading.read(sockets) == {}
        assert set(sockets["netns"].tolist()) == {second.inode}


@pytest.fixture
def crowd() -> Iterator[Namespace]:
    """A namespace whose table has one bucket, as anybody can make them, with more sockets than are read at once."""
    with Namespace() as maker, ExitStack() as stack:
        maker.set_sysctl("net.ipv4.tcp_child_ehash_entries", 1)
        crowd = stack.enter_context(Namespace(maker))
        crowd.inside(lambda: fill(stack, CROWD))
        crowd.inside(leave_one_in_time_wait)  # which is not read, but met
        yield crowd


@since(WALK)
def test_whoever_crowds_a_bucket_hides_nothing_in_it(crowd: Namespace) -> None:
    """Anybody can have 2,000 sockets in the bucket of another's connection; those that stand still are read once."""
    with ExitStack() as stack:
        host = Host(stack)
        kept = {cookie(end) for end in host.connect(crowd)}
        read = stack.enter_context(contextlib.closing(BpfWalker()))
        crowd.inside(partial(read.enter, crowd.inode))
        read.read(Sockets())  # all have cookies then
        coming_and_going = stack.enter_context(crowd.running(sys.executable, "-c", COME_AND_GO))
        assert coming_and_going.stdout
        assert coming_and_going.stdout.readline()
        for _ in range(50):
            sockets = Sockets()
            assert read.read(sockets) == {}
            seen = sockets["cookie"].tolist()
            assert kept <= set(seen)
            assert 2 * CROWD <= len(seen) == len(set(seen))
        assert coming_and_going.poll() is None


@since(WALK)
@pytest.mark.parametrize(("bound", "value"), [("MOST", STEPS), ("ENOUGH", -1.0)])
def test_a_bucket_that_takes_too_long_is_left_out_and_nothing_else(
    crowd: Namespace, bound: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walker, bound, value)
    with ExitStack() as stack:
        host = Host(stack)
        victim = host.namespace()
        shown, _ = host.connect(victim)
        read = stack.enter_context(contextlib.closing(BpfWalker()))
        for where in (victim, crowd):
            where.inside(partial(read.enter, where.inode))
        sockets = Sockets()
        assert read.read(sockets) == {crowd.inode: None}
        assert read.crowded == {crowd.inode}
        assert cookie(shown) in sockets["cookie"].tolist()


@since(WALK)
def test_all_namespaces_of_a_table_are_named_where_one_of_its_buckets_is_left_out(
    crowd: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whose sockets are in it."""
    monkeypatch.setattr(Walk, "read", lambda *given: [0] if given[1].last else [])
    monkeypatch.setattr(Walk, "sift", lambda *_: False)
    with Namespace() as first, Namespace() as second, contextlib.closing(BpfWalker()) as read:
        for where in (first, second, crowd):
            where.inside(partial(read.enter, where.inode))
        assert read.read(Sockets()) == {first.inode: None, second.inode: None}
        assert read.crowded == {first.inode, second.inode}


@since(WALK)
def test_a_crowded_bucket_is_walked_over_a_few_times(crowd: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred walks over each, in each scan, were anybody's to ask for."""
    run, walks = libbpf.run, list[int]()

    def counted(program: int) -> None:
        walks.append(program)
        run(program)

    with contextlib.closing(BpfWalker()) as read:
        crowd.inside(partial(read.enter, crowd.inode))
        monkeypatch.setattr(libbpf, "run", counted)
        assert read.read(Sockets()) == {}
        assert len(walks) <= FEW_WALKS


def leave_one_in_time_wait() -> None:
    """Make a connection in the calling thread's namespace, and close both ends."""
    with ExitStack() as brief:
        fill(brief, 1)


def fill(stack: ExitStack, number: int) -> None:
    """Make so many connections in the calling thread's namespace, and keep them."""
    server = stack.enter_context(create_server(("127.0.0.1", 0), backlog=number))
    for _ in range(number):
        stack.enter_context(socket()).connect(server.getsockname())
        stack.enter_context(server.accept()[0])


@by_each
def test_more_sockets_than_are_read_at_once_are_all_read(engine: Callable[..., Engine]) -> None:
    """Each once."""
    with (
        Namespace() as home,
        home.running(sys.executable, HOLD, str(MANY)) as holder,
        contextlib.closing(SocketWatcher(engine=engine())) as watcher,
    ):
        assert holder.stdout
        assert int(holder.stdout.readline()) == MANY
        sockets = watcher.scan(0.0).sockets
        assert len(set(sockets["cookie"][sockets["netns"] == home.inode].tolist())) == MANY
        assert np.count_nonzero(sockets["netns"] == home.inode) == MANY


@since(WALK)
@pytest.mark.parametrize(
    "hindered",
    ["by nothing", "by having one processor", "by want of memory", "by want of threads", "by a thread that dies"],
)
def test_two_processors_read_what_one_does_in_the_same_order(hindered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the order, a scan is compared with the one before."""
    walks: list[Walk] = []

    class Counted(Walk):
        def __init__(self, ignore: Sequence[IPNetwork]) -> None:
            if hindered == "by want of memory" and walks:
                raise Unsupported("no memory")
            super().__init__(ignore)
            walks.append(self)

    def read() -> list[Column]:
        walks.clear()
        with contextlib.closing(BpfWalker()) as reading:
            reading.enter(home.inode)
            looks = [Sockets() for _ in range(3)]
            assert [reading.read(sockets) for sockets in looks] == 3 * [{}]
            return [sockets["cookie"] for sockets in looks]

    class Dead(Task[bool]):
        def __init__(self, _: Callable[[], bool]) -> None:
            if hindered == "by want of threads":
                raise OSError("can't start new thread")
            super().__init__(lambda: True)

        def result(self, within: float) -> bool:
            raise OSError(f"no memory for another thread within {within}")

    monkeypatch.setattr(walker, "Walk", Counted)
    if "thread" in hindered:
        monkeypatch.setattr(walker, "Task", Dead)
    if hindered == "by having one processor":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with Namespace() as home, home.running(sys.executable, HOLD, str(MANY)) as holder:
        assert holder.stdout
        assert int(holder.stdout.readline()) == MANY
        by_one = home.inside(read)
        assert len(walks) == 1
        monkeypatch.setattr(walker, "FOR_TWO", MANY)
        by_two = home.inside(read)
        assert len(walks) == (1 if hindered in ("by having one processor", "by want of memory") else 2)
    for cookies in (*by_one, *by_two):
        assert cookies.tolist() == by_one[0].tolist()
        assert len(set(cookies.tolist())) == MANY


@since(WALK)
def test_what_hinders_one_of_two_processors_is_said_when_both_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they read with is taken out of the kernel then, as after each failure."""
    monkeypatch.setattr(walker, "FOR_TWO", 0)
    main, failed, run_here = threading.get_ident(), threading.Event(), libbpf.run

    def run(program: int) -> None:
        if threading.get_ident() != main:
            failed.set()
            raise KernelError("no more")
        assert failed.wait(SOON)
        run_here(program)

    with contextlib.closing(BpfWalker()) as reading:
        reading.enter(os.stat("/proc/self/ns/net").st_ino)
        monkeypatch.setattr(libbpf, "run", run)
        with pytest.raises(KernelError, match="no more"):
            reading.read(Sockets())


def give_to_all(cookies: Cookies, begin: threading.Barrier) -> None:
    """Give each socket its cookie, once both have come."""
    begin.wait()
    cookies.give_to_all()


@since(WALK)
def test_sockets_that_somebody_else_asks_for_their_cookies_just_now_are_read_all_the_same() -> None:
    """Anybody does who lists them, as ss(8): they were taken for others by then, and up to half of them left out."""
    for _ in range(10):
        with Namespace() as home, ExitStack() as stack:
            home.inside(partial(fill, stack, CROWD))
            read = stack.enter_context(contextlib.closing(BpfWalker()))
            home.inside(partial(read.enter, home.inode))
            cookies = stack.enter_context(contextlib.closing(home.inside(Cookies)))
            both = threading.Barrier(2)
            asking = Task(partial(give_to_all, cookies, both))
            both.wait()
            sockets = Sockets()
            assert read.read(sockets) == {}
            assert asking.wait(SOON)
            assert len(sockets) == 2 * CROWD


@by_each
@pytest.mark.parametrize("are_many", [False, True])
def test_a_socket_that_nobody_has_asked_for_has_its_cookie_all_the_same(
    engine: Callable[..., Engine], are_many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel gives one only to those that are asked for, and by it a socket is known from scan to scan.

    Where many have none, a dump asks for all at once.
    """
    monkeypatch.setattr("keepaliveD.platforms.linux.bpf.walker.MANY", 0 if are_many else 10_000)
    if are_many:
        monkeypatch.setattr(BpfWalker, "_name", lambda *_: {})
    with ExitStack() as stack:
        host = Host(stack)
        home = host.namespace()
        ends: list[socket] = []
        for family, address in PEERS:
            server = stack.enter_context(
                home.inside(partial(create_server, ("::", 0), family=AF_INET6, dualstack_ipv6=True))
            )
            client = stack.enter_context(home.inside(partial(socket, family)))
            client.connect((address, server.getsockname()[1]))
            ends += client, stack.enter_context(server.accept()[0])
        ends[0].setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"lo")
        with contextlib.closing(SocketWatcher(engine=engine())) as watcher:
            seen = of_host(host, watcher.scan(0.0).sockets)
        told = dict(zip(seen["inode"].tolist(), seen["cookie"].tolist(), strict=True))
        assert told == {os.fstat(end.fileno()).st_ino: cookie(end) for end in ends}


@by_each
def test_no_socket_that_stays_is_missed_while_others_come_and_go(engine: Callable[..., Engine]) -> None:
    """In the kernel's table too, where what is freed is used anew at once. Other namespaces would only cost time."""
    looks = [Sockets() for _ in range(100)]

    def look() -> list[Gaps]:
        with contextlib.closing(engine()) as reading:
            reading.enter(home.inode)
            return [reading.read(sockets) for sockets in looks]

    with ExitStack() as stack:
        host = Host(stack)
        home = host.namespace()
        for _ in range(50):
            host.connect(home)
        others = [stack.enter_context(home.running(sys.executable, "-c", COME_AND_GO)) for _ in range(2)]
        assert all(other.stdout and other.stdout.readline() for other in others)
        gaps = home.inside(look)
        assert all(other.poll() is None for other in others)
        assert not any(gaps)
        for sockets in looks:
            seen = of_host(host, sockets)["cookie"].tolist()
            assert set(host.held) <= set(seen)
            assert len(seen) == len(set(seen))


@by_each
def test_a_socket_that_sends_while_it_is_read_is_not_old(engine: Callable[..., Engine]) -> None:
    """What is newer than the reader's clock has the age 0; in a small table many sockets are read at one instant."""
    ages: list[list[np.float32]] = []

    def look() -> None:
        with contextlib.closing(engine()) as reading:
            reading.enter(home.inode)
            for _ in range(200):
                sockets = Sockets()
                assert reading.read(sockets) == {}
                ages.append([np.nanmax(sockets[name], initial=0.0) for name in (*AGES, "since_packet")])

    with Namespace() as maker:
        maker.set_sysctl("net.ipv4.tcp_child_ehash_entries", 64)
        with Namespace(maker) as home, home.running(sys.executable, "-c", TALK) as talking:
            assert talking.stdout
            assert talking.stdout.readline()
            home.inside(look)
            assert talking.poll() is None
    assert np.max(ages) < SOON


def test_a_socket_that_is_gone_gets_no_cookie_nor_that_of_another_with_its_addresses() -> None:
    """Between two looks a connection can end, linger in TIME_WAIT, or be made anew."""
    with ExitStack() as stack:
        host = Host(stack)
        home = host.namespace()
        staying, lingering, orphaned, made_anew = (host.connect(home) for _ in range(4))
        orphaned[0].setsockopt(IPPROTO_TCP, TCP_LINGER2, 100)  # or it would be in TIME_WAIT at once
        orphaned[0].close()
        with contextlib.closing(SocketWatcher(engine=Netlink())) as watcher:
            table = watcher.scan(0.0).sockets
        sockets = table.select(np.isin(table["netns"], [home.inode]))
        for end in (*lingering, orphaned[1]):
            end.close()
        port = made_anew[0].getsockname()[1]
        peer = made_anew[0].getpeername()
        for end in reversed(made_anew):
            end.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # a reset: nothing lingers
            end.close()
        server = stack.enter_context(home.inside(lambda: create_server(("0.0.0.0", peer[1]))))
        again = stack.enter_context(home.inside(socket))
        again.bind(("127.0.0.1", port))
        again.connect(peer)
        stack.enter_context(server.accept()[0])
        with contextlib.closing(home.inside(Cookies)) as cookies:
            given = cookies.of(sockets).tolist()
        assert {number for number in given if number} == {cookie(end) for end in staying}
        assert len(given) == 8


@by_each
def test_a_namespace_that_ends_is_let_go(engine: Callable[..., Engine]) -> None:
    """What is held of it would keep it, and its veth pairs, alive for ever."""
    with Namespace() as home, contextlib.closing(SocketWatcher(engine=engine())) as watcher:
        with Namespace() as guest:
            home.ip(f"link add guest type veth peer name home netns {guest.pid}")
            watcher.scan(0.0)
        assert home.run("ip", "link", "show", "guest").returncode == 0
        watcher.scan(0.0)
        deadline = time.monotonic() + SOON
        while home.run("ip", "link", "show", "guest").returncode == 0:
            assert time.monotonic() < deadline, "the namespace is still there"


@by_each
def test_nothing_stays_in_the_kernel(engine: Callable[..., Engine]) -> None:
    """Descriptors are all that holds programs, maps and links."""
    before = open_descriptors()
    with contextlib.closing(SocketWatcher(engine=engine())) as watcher:
        watcher.scan(0.0)
    assert open_descriptors() <= before


@since(LASTING)
@by_bpf
def test_what_is_loaded_outlives_the_capability_that_it_took(engine: Callable[..., Engine]) -> None:
    """The kernel asks for it when programs are loaded, not when they run."""
    with create_server(("127.0.0.1", 0)) as server, socket() as client:
        client.connect(server.getsockname())
        with contextlib.closing(SocketWatcher(engine=engine(), all_namespaces=False)) as watcher, as_nobody():
            assert cookie(client) in watcher.scan(0.0).sockets["cookie"]


@pytest.mark.parametrize(
    "engine", [pytest.param("walk", marks=since(WALK)), pytest.param("iterator", marks=since(ITERATOR))]
)
def test_where_bpf_is_taken_away_netlink_goes_on_with_the_same_sockets(engine: str) -> None:
    """What is known of them goes by their cookies, and is not lost."""
    with ExitStack() as stack:
        host = Host(stack)
        home = host.namespace()
        for peer in PEERS:
            host.connect(home, peer)
        done = home.run(sys.executable, "-m", "tests.kernel.losing_bpf", engine)
        (before, seen), (after, still_seen) = (json.loads(line) for line in done.stdout.splitlines())
        assert seen == still_seen == sorted(host.held)
        assert before == "bpf engine"
        assert re.fullmatch(r"netlink engine \(BPF: .*: Operation not permitted\)", after)


WITHOUT_BPF = ("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin")


@pytest.mark.parametrize(("engine", "version"), [(BpfWalker, WALK), (BpfIterator, ITERATOR)])
def test_what_this_kernel_has_is_loaded_and_what_it_is_too_old_for_is_reported_in_one_line(
    engine: Callable[[], Engine], version: tuple[int, int]
) -> None:
    """Which kernel has what is known."""
    if version <= RUNNING:
        engine().close()
        return
    with pytest.raises(Unsupported) as refusal:
        engine()
    assert re.fullmatch(rf"\w+\.bpf\.o: .+; requires {needed(version)}", str(refusal.value))


def needed(version: tuple[int, int]) -> str:
    return r"Linux {}\.{} or later with its BTF \(/sys/kernel/btf/vmlinux\)".format(*version)


def test_the_daemon_takes_bpf_where_it_may(tmp_path: Path) -> None:
    """And says so; where the kernel is too old for the best of it, what that takes."""
    if RUNNING >= WALK:
        how = "bpf engine"
    elif RUNNING >= ITERATOR:
        how = rf"bpf engine \(one namespace at a time: .+{needed(WALK)}\)"
    else:
        how = rf"netlink engine \(.+{needed(ITERATOR)}\)"
    with Namespace() as host, Home(tmp_path, configuration()).daemon(host) as daemon:
        assert re.fullmatch(how, daemon.expect("started")["KEEPALIVE_ENGINE"])


def test_where_the_kernel_refuses_bpf_the_daemon_watches_all_the_same(tmp_path: Path) -> None:
    """And says what is missing."""
    with Namespace() as host, Home(tmp_path, configuration()).daemon(host, through=WITHOUT_BPF) as daemon:
        assert "netlink engine (BPF is not permitted: requires CAP_BPF" in daemon.expect("started")["KEEPALIVE_ENGINE"]


def test_where_it_must_be_bpf_and_cannot_the_daemon_does_not_start(tmp_path: Path) -> None:
    """One line, and the status that keeps systemd from trying again."""
    home = Home(tmp_path, configuration().replace("[watch]", '[watch]\nengine = "bpf"'))
    with Namespace() as host:
        done = host.run(*WITHOUT_BPF, *home.command)
        assert host.keepalive == UNTUNED
    assert done.returncode == Exit.NOPERM
    (line,) = done.stderr.splitlines()
    assert 'watch.engine = "bpf": BPF is not permitted' in line
