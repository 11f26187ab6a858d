"""Arming by duplicates of descriptors: what is reached, and what is never touched."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from socket import (
    AF_INET,
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPIDLE,
    create_connection,
    create_server,
    socket,
)

import numpy as np
import pytest

from keepaliveD.model.arming import Access
from keepaliveD.model.connections import Connection
from keepaliveD.model.keepalive import ALL, Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, ArmingResult
from keepaliveD.model.rules import ArmAction, ArmRule, Wish
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.platforms.linux.arming import options
from keepaliveD.platforms.linux.arming.pidfd import PidfdArmer
from keepaliveD.platforms.linux.owners.holders import Holder, Holders
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.policy.arming.choices import targets
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.connections import connections
from keepaliveD.policy.verdicts.judge import judge
from tests.support import walk
from tests.support.descriptors import open_descriptors
from tests.support.patience import SOON
from tests.support.rig import Namespace
from tests.support.tables import CONFIGURED
from tests.support.versions import SHOWS_ULP, since
from tests.support.walk import Keep, Order

OURS = SocketKeepalive(True, Keepalive(180, 20, 31))
UNTOUCHED = SocketKeepalive(False, Keepalive(7200, 75, 9))
ROOT = Path("/")
UNFOUND = (
    ArmingResult.OWNER_NOT_FOUND,
    ArmingResult.OWNER_NOT_VISIBLE,
)  # the latter where not even root may look into all processes


class Place:
    """Connections of this process to itself in a namespace of their own, and how to arm them."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.listener = namespace.inside(lambda: create_server(("127.0.0.1", 0)))
        self.holders = Holders(ROOT)
        self.kept: dict[int, Armed] = {}
        self._ends: list[socket] = []

    def connect(self) -> tuple[socket, socket]:
        """Both ends of a new connection."""
        near = self.namespace.inside(lambda: create_connection(self.listener.getsockname()))
        far = self.listener.accept()[0]
        self._ends += near, far  # a test that drops one does not close it
        return near, far

    def connect_mptcp(self) -> socket:
        """One end of a new MPTCP connection, both of which use the protocol."""

        def make() -> tuple[socket, socket]:
            listener, near = (socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP) for _ in range(2))
            with listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                near.connect(listener.getsockname())
                return near, listener.accept()[0]

        self._ends += self.namespace.inside(make)
        return self._ends[-2]

    def seen(self, sock: socket) -> Connection:
        """What the watcher sees of it."""
        watcher = self.namespace.inside(lambda: SocketWatcher(all_namespaces=False))
        table = self.namespace.inside(lambda: watcher.scan(1.0))
        watcher.close()
        look = judge(table, nothing_known(), [NetworkPath("default", 300.0, CONFIGURED)], [])
        every = connections(look, np.arange(len(look.table)))
        return next(one for one in every if one.inode == os.fstat(sock.fileno()).st_ino)

    def arm(
        self,
        *wanted: Connection,
        action: ArmAction = ArmAction.ENABLE,
        earlier: Mapping[int, Armed] | None = None,
        keep: Keep | None = None,
    ) -> list[Arming]:
        """Arm them, with their holders as far as they are known."""
        rule = ArmRule("test", action, OURS.times.idle, OURS.times.interval, OURS.times.probes)
        orders = [Order(connection, Wish(rule, OURS.times)) for connection in wanted]
        with contextlib.closing(PidfdArmer(ROOT, self.holders)) as armer:
            return self.namespace.inside(lambda: walk.arm(armer, orders, earlier or {}, keep or self.kept.update))


@pytest.fixture
def place() -> Iterator[Place]:
    with Namespace() as namespace:
        yield Place(namespace)


def stands(sock: socket) -> tuple[bool, int]:
    return bool(sock.getsockopt(SOL_SOCKET, SO_KEEPALIVE)), sock.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE)


def test_a_bare_socket_is_armed_and_what_stood_there_was_recorded_before(place: Place) -> None:
    near, _ = place.connect()
    connection = place.seen(near)
    place.holders.find([connection.inode])
    (arming,) = place.arm(connection)
    assert (arming.result, arming.before, arming.after) == (ArmingResult.ARMED, UNTOUCHED, OURS)
    assert place.kept == {connection.cookie: Armed(UNTOUCHED, OURS, ALL)}
    assert stands(near) == (True, 180)


def test_nothing_is_set_where_the_record_cannot_be_written(place: Place) -> None:
    near, _ = place.connect()
    connection = place.seen(near)
    place.holders.find([connection.inode])

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    before = open_descriptors()
    with pytest.raises(OSError, match="No space"):
        place.arm(connection, keep=full)
    assert stands(near) == (False, 7200)
    assert open_descriptors() <= before


def test_a_descriptor_that_is_another_sockets_by_now_is_left_alone_and_the_right_one_is_found(place: Place) -> None:
    """Between the look and the arming a program closed one connection and opened another, with the same number."""
    near, _ = place.connect()
    other, _ = place.connect()
    connection = place.seen(near)
    place.holders._known[connection.inode] = Holder(os.getpid(), other.fileno())
    (arming,) = place.arm(connection)
    assert arming.result is ArmingResult.ARMED
    assert (stands(near), stands(other)) == ((True, 180), (False, 7200))


def test_a_socket_that_is_gone_costs_nobody_else_anything(place: Place) -> None:
    """Its inode and its number live on with another connection: only the cookie tells."""
    near, _ = place.connect()
    connection = replace(place.seen(near), cookie=4711)
    place.holders.find([connection.inode])
    (arming,) = place.arm(connection)
    assert arming.result is ArmingResult.CLOSED
    assert stands(near) == (False, 7200)


def test_a_subflow_of_an_mptcp_connection_is_named_as_such(place: Place) -> None:
    """Its program has a descriptor of the connection, under the same inode, and none of the subflow."""
    near = place.connect_mptcp()
    connection = place.seen(near)
    place.holders.find([connection.inode])
    (arming,) = place.arm(connection)
    assert arming.result is ArmingResult.SUBFLOW
    assert place.kept == {}


@pytest.mark.parametrize("what", ["a file", "a pipe", "a listener", "a number that is not open"])
def test_what_is_no_connection_is_never_touched(place: Place, what: str, tmp_path: Path) -> None:
    near, _ = place.connect()
    connection = place.seen(near)
    make: dict[str, Callable[[], int]] = {
        "a file": lambda: os.open(tmp_path, os.O_RDONLY),
        "a pipe": lambda: os.pipe()[0],
        "a listener": place.listener.fileno,
        "a number that is not open": lambda: 1_000_000,
    }
    number = make[what]()
    near.close()
    place.holders._known[connection.inode] = Holder(os.getpid(), number)
    before = open_descriptors()
    (arming,) = place.arm(connection)
    assert arming.result in (ArmingResult.CLOSED, *UNFOUND)
    assert stands(place.listener) == (False, 7200)
    assert open_descriptors() <= before


def test_a_process_that_has_ended_is_no_error(place: Place) -> None:
    near, _ = place.connect()
    connection = place.seen(near)
    near.close()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    place.holders._known[connection.inode] = Holder(child, 3)
    assert [arming.result for arming in place.arm(connection)] in ([ArmingResult.CLOSED], *([each] for each in UNFOUND))


def test_where_no_more_descriptors_can_be_had_the_socket_is_not_taken_for_gone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of, and not looked for elsewhere."""
    near, _ = place.connect()
    connection = place.seen(near)
    place.holders.find([connection.inode])

    def too_many(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", too_many)
    (arming,) = place.arm(connection)
    assert arming.result is ArmingResult.FAILED


def test_a_half_closed_connection_is_left_alone(place: Place) -> None:
    """It was established when it was judged."""
    near, far = place.connect()
    connection = place.seen(near)
    place.holders.find([connection.inode])
    far.close()
    assert near.recv(1) == b""
    (arming,) = place.arm(connection)
    assert arming.result is ArmingResult.CLOSED
    assert stands(near) == (False, 7200)


def test_no_descriptor_stays_open_however_many_sockets_there_are(place: Place) -> None:
    pairs = [place.connect() for _ in range(300)]
    wanted = [place.seen(near) for near, _ in pairs[:2]]
    wanted += [replace(wanted[0], cookie=10**9 + number, inode=10**9 + number) for number in range(300)]
    before = open_descriptors()
    place.holders.find({connection.inode for connection in wanted})
    results = {arming.result for arming in place.arm(*wanted)}
    assert ArmingResult.ARMED in results
    assert results <= {ArmingResult.ARMED, *UNFOUND}
    assert open_descriptors() <= before


def test_a_socket_that_was_only_looked_into_is_its_programs_alone(place: Place) -> None:
    """Its program's close is the last one, and tells the peer so at once."""
    near, far = place.connect()
    wanted = targets([place.seen(near)])
    place.holders.find(wanted["inode"].tolist())
    with contextlib.closing(PidfdArmer(ROOT, place.holders)) as armer:
        looked = place.namespace.inside(lambda: armer.read(wanted, closing=False))
        assert looked["access"].tolist() == [Access.DONE.value]
        near.close()
        far.settimeout(SOON)
        assert far.recv(1) == b""


def test_one_socket_is_held_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has locked one of his own keeps us waiting, and must not keep another one open by that."""
    every = [place.seen(place.connect()[0]) for _ in range(3)]
    place.holders.find([one.inode for one in every])
    before, held = open_descriptors(), []

    def read(sock: socket) -> tuple[int, int, int, int]:
        held.append({number for number in open_descriptors() - before if is_socket(number)})
        return options_read(sock)

    options_read = options.read
    monkeypatch.setattr(options, "read", read)
    place.arm(*every)
    assert len(held) >= 2 * len(every)
    assert {len(each) for each in held} == {1}


def is_socket(number: str) -> bool:
    """Whether that descriptor is a socket, and not gone: it may have served to list them."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    return False


def test_what_somebody_set_after_it_was_armed_is_left(place: Place) -> None:
    near, _ = place.connect()
    connection = place.seen(near)
    place.holders.find([connection.inode])
    place.arm(connection)
    near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 3600)
    (arming,) = place.arm(connection, earlier=place.kept)
    assert arming.result is ArmingResult.CHANGED_SINCE
    assert stands(near) == (True, 3600)


def test_what_is_armed_as_it_was_is_not_armed_again(place: Place) -> None:
    near, _ = place.connect()
    connection = place.seen(near)
    place.holders.find([connection.inode])
    place.arm(connection)
    (arming,) = place.arm(connection, earlier=place.kept)
    assert arming.result is ArmingResult.ALREADY_SET


def test_a_socket_can_be_disarmed_to_what_stood_there(place: Place) -> None:
    near, _ = place.connect()
    near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 600)
    connection = place.seen(near)
    place.holders.find([connection.inode])
    place.arm(connection)
    assert stands(near) == (True, 180)
    (arming,) = walk.disarm(PidfdArmer(ROOT, place.holders), [connection], place.kept)
    assert arming.result is ArmingResult.DISARMED
    assert stands(near) == (False, 600)


def test_what_somebody_set_since_is_not_disarmed(place: Place) -> None:
    near, _ = place.connect()
    connection = place.seen(near)
    place.holders.find([connection.inode])
    place.arm(connection)
    near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 60)
    (arming,) = walk.disarm(PidfdArmer(ROOT, place.holders), [connection], place.kept)
    assert arming.result is ArmingResult.CHANGED_SINCE
    assert stands(near) == (True, 60)


def test_rearm_leaves_what_a_program_chose_and_takes_what_follows_the_system(place: Place) -> None:
    """The namespace says 7200: a socket that says so too follows it."""
    chosen, _ = place.connect()
    chosen.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    chosen.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 600)
    following, _ = place.connect()
    following.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    wanted = [place.seen(chosen), place.seen(following)]
    place.holders.find({connection.inode for connection in wanted})
    results = [arming.result for arming in place.arm(*wanted, action=ArmAction.REARM)]
    assert sorted(result.name for result in results) == ["ARMED", "KEPT_BY_PROGRAM"]
    assert (stands(chosen), stands(following)) == ((True, 600), (True, 180))


def test_the_timer_is_credited_the_time_that_the_connection_was_quiet_for(place: Place) -> None:
    """Else it would have to stay quiet for another whole idle time."""
    near, far = place.connect()
    far.sendall(b"word")
    near.recv(4)
    connection = place.seen(near)
    place.holders.find([connection.inode])
    place.arm(connection)
    table = place.namespace.inside(lambda: SocketWatcher(all_namespaces=False).scan(2.0))
    row = table.sockets["cookie"].tolist().index(connection.cookie)
    quiet = float(table.sockets["since_received"][row])
    assert 180 - quiet - 1 < float(table.sockets["expires"][row]) <= 180


@since(SHOWS_ULP)
def test_a_subflow_is_known_as_such_before_anybody_tries_to_arm_it(place: Place) -> None:
    assert [place.seen(sock).subflow for sock in (place.connect_mptcp(), place.connect()[0])] == [True, False]
