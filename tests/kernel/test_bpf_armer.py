"""Arming by BPF: what is reached, and what is never touched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from socket import (
    IPPROTO_TCP,
    SHUT_WR,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    create_connection,
    create_server,
    socket,
)

import numpy as np
import pytest

from keepaliveD.model.arming import CHANGE, TARGET, Access
from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import KernelError
from keepaliveD.model.keepalive import ALL, Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, ArmingResult
from keepaliveD.model.rules import ArmAction, ArmRule, Wish
from keepaliveD.model.rules import Path as NetworkPath
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.linux.bpf import armer, libbpf
from keepaliveD.platforms.linux.bpf.armer import BpfArmer
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.connections import connections
from keepaliveD.policy.verdicts.judge import judge
from tests.kernel.test_engines import cookie
from tests.support import walk
from tests.support.rig import TIME, Namespace
from tests.support.tables import CONFIGURED
from tests.support.versions import ITERATOR, since
from tests.support.walk import Keep, Order

pytestmark = since(ITERATOR)

OURS = SocketKeepalive(True, Keepalive(180, 20, 31))
UNTOUCHED = SocketKeepalive(False, Keepalive(7200, 75, 9))
RULE = ArmRule("test", ArmAction.ENABLE, OURS.times.idle, OURS.times.interval, OURS.times.probes)
WISH = Wish(RULE, OURS.times)
OPTIONS = (
    (SOL_SOCKET, SO_KEEPALIVE, 1),
    (IPPROTO_TCP, TCP_KEEPIDLE, 180),
    (IPPROTO_TCP, TCP_KEEPINTVL, 20),
    (IPPROTO_TCP, TCP_KEEPCNT, 31),
)
MANY = 300


class Place:
    """Connections of this process to itself in a namespace that it is not in, and how to arm them."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.listener = namespace.inside(lambda: create_server(("127.0.0.1", 0)))
        self.kept: dict[int, Armed] = {}
        self.armer = BpfArmer(Path("/"))
        self._ends: list[socket] = []

    def connect(self) -> tuple[socket, socket]:
        """Both ends of a new connection."""
        near = self.namespace.inside(lambda: create_connection(self.listener.getsockname()))
        far = self.listener.accept()[0]
        self._ends += near, far
        return near, far

    def seen(self, *wanted: socket) -> list[Connection]:
        """What the watcher sees of them."""
        with contextlib.closing(SocketWatcher()) as watcher:
            look = judge(watcher.scan(1.0), nothing_known(), [NetworkPath("default", 300.0, CONFIGURED)], [])
        every = {one.cookie: one for one in connections(look, np.arange(len(look.table)))}
        return [every[cookie(one)] for one in wanted]

    def arm(
        self,
        wanted: Sequence[Connection],
        action: ArmAction = ArmAction.ENABLE,
        earlier: Mapping[int, Armed] | None = None,
        keep: Keep | None = None,
    ) -> list[Arming]:
        wish = replace(WISH, rule=replace(RULE, action=action))
        orders = [Order(connection, wish) for connection in wanted]
        return walk.arm(self.armer, orders, earlier or {}, keep or self.kept.update)


@pytest.fixture
def place() -> Iterator[Place]:
    with Namespace() as namespace:
        place = Place(namespace)
        yield place
        place.armer.close()


def stands(sock: socket) -> tuple[bool, int]:
    return bool(sock.getsockopt(SOL_SOCKET, SO_KEEPALIVE)), sock.getsockopt(IPPROTO_TCP, TCP_KEEPIDLE)


def results(armings: Sequence[Arming]) -> dict[int, ArmingResult]:
    """By cookie."""
    return {connection.cookie: arming.result for arming in armings for connection in arming.connections}


def test_a_bare_socket_is_armed_and_what_stood_there_was_recorded_before(place: Place) -> None:
    near, far = place.connect()
    (connection,) = place.seen(near)
    found: list[tuple[bool, int]] = []

    def keep(armed: Mapping[int, Armed]) -> None:
        place.kept.update(armed)
        found.append(stands(near))

    (arming,) = place.arm([connection], keep=keep)
    assert (arming.result, arming.before, arming.after) == (ArmingResult.ARMED, UNTOUCHED, OURS)
    assert place.kept == {connection.cookie: Armed(UNTOUCHED, OURS, ALL)}
    assert (found, stands(near), stands(far)) == ([(False, 7200)], (True, 180), (False, 7200))


def test_a_later_pass_does_not_set_what_an_earlier_one_wanted_and_did_not_reach(place: Place) -> None:
    """Its slot is still there, and sockets are looked for first in the slot after that of the one before."""
    ends = {cookie(end): end for end in place.connect()}
    with contextlib.closing(SocketWatcher()) as watcher:
        visited = [one for one in watcher.scan(1.0).sockets["cookie"].tolist() if one in ends]
    (connection,) = place.seen(ends[visited[0]])
    both = np.zeros(2, CHANGE)
    both["cookie"] = visited
    looked = place.armer.read(targets(both, connection.netns), closing=False)
    both["expected"], both["inherited"], both["after"] = looked["stands"], looked["inherited"], (180, 20, 31, 1)
    assert place.armer.change(both, closing=False)["access"].tolist() == [Access.CLOSED] * 2, "no such namespace"
    first = both[:1].copy()
    first["netns"] = connection.netns
    assert place.armer.change(first, closing=False)["access"].tolist() == [Access.DONE]
    assert [stands(ends[one]) for one in visited] == [(True, 180), (False, 7200)]


def targets(changes: Column, netns: int) -> Column:
    """These sockets, in this namespace."""
    these = np.zeros(len(changes), TARGET)
    these["cookie"], these["netns"] = changes["cookie"], netns
    return these


def test_its_timer_is_set_anew_at_once(place: Place) -> None:
    near, _ = place.connect()
    near.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    (connection,) = place.seen(near)
    assert connection.due_in > 7000
    place.arm([connection], ArmAction.REARM)
    assert 0 < place.seen(near)[0].due_in <= 181


def test_a_timer_that_was_armed_before_the_sysctl_was_lowered_is_set_anew(place: Place) -> None:
    """The time that stands is the one that is wished; only the timer is not true."""
    near, _ = place.connect()
    near.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    place.namespace.set_sysctl(TIME, OURS.times.idle)
    (connection,) = place.seen(near)
    assert connection.due_in > 7000
    place.arm([connection], ArmAction.REARM)
    assert 0 < place.seen(near)[0].due_in <= 181


def test_a_stricter_time_of_the_programs_own_stays(place: Place) -> None:
    near, _ = place.connect()
    near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 60)
    (arming,) = place.arm(place.seen(near))
    assert arming.result is ArmingResult.ARMED
    assert stands(near) == (True, 60)


def test_rearm_leaves_alone_what_never_asked_and_what_was_chosen(place: Place) -> None:
    bare, chosen = (place.connect()[0] for _ in range(2))
    chosen.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    chosen.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 900)
    assert results(place.arm(place.seen(bare, chosen), ArmAction.REARM)) == {
        cookie(bare): ArmingResult.LEFT_BY_RULE,
        cookie(chosen): ArmingResult.KEPT_BY_PROGRAM,
    }
    assert (stands(bare), stands(chosen)) == ((False, 7200), (True, 900))


def test_what_counts_as_chosen_is_measured_by_the_sockets_own_namespace(place: Place) -> None:
    place.namespace.set_sysctl(TIME, 611)
    near, _ = place.connect()
    near.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    (arming,) = place.arm(place.seen(near), ArmAction.REARM)
    assert (arming.result, arming.before and arming.before.times.idle) == (ArmingResult.ARMED, 611)


def test_of_two_that_look_alike_each_is_measured_by_its_own_namespace(place: Place) -> None:
    place.namespace.set_sysctl(TIME, 611)
    with Namespace() as elsewhere:
        there = Place(elsewhere)
        ends = place.connect()[0], there.connect()[0]
        for end in ends:
            end.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        ends[1].setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 611)
        armings = place.arm([*place.seen(ends[0]), *there.seen(ends[1])], ArmAction.REARM)
    assert results(armings) == {cookie(ends[0]): ArmingResult.ARMED, cookie(ends[1]): ArmingResult.KEPT_BY_PROGRAM}


def test_a_socket_of_an_earlier_arming_is_not_touched_by_a_later_one(place: Place) -> None:
    near, other = place.connect()
    place.arm(place.seen(near))
    near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 7200)
    assert results(place.arm(place.seen(other))) == {cookie(other): ArmingResult.ARMED}
    assert (stands(near), stands(other)) == ((True, 7200), (True, 180))


def test_what_a_program_sets_between_the_reading_and_the_arming_stays(place: Place) -> None:
    near, other = place.connect()
    armings = place.arm(place.seen(near, other), keep=lambda _: near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 33))
    assert results(armings) == {cookie(near): ArmingResult.CHANGED_MEANWHILE, cookie(other): ArmingResult.ARMED}
    assert {one.after for one in armings} == {OURS, UNTOUCHED._replace(times=Keepalive(33, 75, 9))}
    assert (stands(near), stands(other)) == ((False, 33), (True, 180))


def test_what_a_program_sets_so_itself_at_that_moment_is_its_own(place: Place) -> None:
    near, _ = place.connect()

    def keep(_: object) -> None:
        for level, option, value in OPTIONS:
            near.setsockopt(level, option, value)

    (arming,) = place.arm(place.seen(near), keep=keep)
    assert (arming.result, arming.after) == (ArmingResult.CHANGED_MEANWHILE, OURS)


def test_a_socket_that_is_closed_between_the_reading_and_the_arming_is_gone(place: Place) -> None:
    near, other = place.connect()
    connections = place.seen(near, other)
    assert results(place.arm(connections, keep=lambda _: near.shutdown(SHUT_WR))) == {
        connections[0].cookie: ArmingResult.CLOSED,
        connections[1].cookie: ArmingResult.CLOSED,
    }
    assert {stands(near), stands(other)} == {(False, 7200)}


def test_what_was_armed_and_set_again_is_left(place: Place) -> None:
    near, _ = place.connect()
    connections = place.seen(near)
    place.arm(connections)
    (again,) = place.arm(connections, earlier=place.kept)
    near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 900)
    (later,) = place.arm(connections, earlier=place.kept)
    assert (again.result, later.result) == (ArmingResult.ALREADY_SET, ArmingResult.CHANGED_SINCE)
    assert stands(near) == (True, 900)


def test_a_socket_that_is_gone_or_half_closed_is_left(place: Place) -> None:
    near, far = place.connect()
    half, other = place.connect()
    seen = place.seen(half, other)
    half.shutdown(SHUT_WR)
    gone = replace(place.seen(near)[0], cookie=2**63 + 1)
    assert {arming.result for arming in place.arm([gone, *seen])} == {ArmingResult.CLOSED}
    assert {stands(one) for one in (near, far, half, other)} == {(False, 7200)}


def test_disarming_puts_back_what_stood_there(place: Place) -> None:
    near, other = place.connect()
    connections = place.seen(near, other)
    place.arm(connections)
    other.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 900)
    done = walk.disarm(place.armer, connections, place.kept)
    assert results(done) == {
        cookie(near): ArmingResult.DISARMED,
        cookie(other): ArmingResult.CHANGED_SINCE,
    }
    assert (stands(near), stands(other)) == ((False, 7200), (True, 900))


def test_what_is_alike_is_reported_as_one_and_each_gets_what_suits_it(place: Place) -> None:
    ends = [end for _ in range(MANY) for end in place.connect()]
    for number, end in enumerate(ends):
        end.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, (7200, 90, 60)[number % 3])
    armings = place.arm(place.seen(*ends))
    told = {one.before.times.idle: {each.cookie for each in one.connections} for one in armings if one.before}
    assert told == {idle: set(map(cookie, ends[start::3])) for start, idle in enumerate((7200, 90, 60))}
    assert {(one.result, one.after and one.after.times.idle) for one in armings} == {
        (ArmingResult.ARMED, idle) for idle in (180, 90, 60)
    }
    assert [stands(end) for end in ends] == [(True, (180, 90, 60)[number % 3]) for number in range(len(ends))]
    assert {one: armed.before.times.idle for one, armed in place.kept.items()} == {
        cookie(end): (7200, 90, 60)[number % 3] for number, end in enumerate(ends)
    }


def test_more_than_the_kernel_takes_at_once_are_armed_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(armer, "MOST", 3)
    ends = [end for _ in range(5) for end in place.connect()]
    assert results(place.arm(place.seen(*ends))) == dict.fromkeys(map(cookie, ends), ArmingResult.ARMED)
    assert {stands(end) for end in ends} == {(True, 180)}


def test_there_is_room_for_many_while_they_are_armed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then for few again: the kernel's memory is not kept."""
    monkeypatch.setattr(armer, "FEW", 3)
    ends = [end for _ in range(5) for end in place.connect()]
    assert results(place.arm(place.seen(*ends))) == dict.fromkeys(map(cookie, ends), ArmingResult.ARMED)
    near, far = place.connect()
    assert results(place.arm(place.seen(near, far))) == dict.fromkeys(map(cookie, (near, far)), ArmingResult.ARMED)
    assert {stands(end) for end in (*ends, near, far)} == {(True, 180)}


def test_without_memory_for_many_at_once_few_are_armed_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KernelError("arm.bpf.o: Cannot allocate memory")

    monkeypatch.setattr(armer, "FEW", 3)
    monkeypatch.setattr(libbpf.Object, "make_room", refuse)
    ends = [end for _ in range(5) for end in place.connect()]
    assert results(place.arm(place.seen(*ends))) == dict.fromkeys(map(cookie, ends), ArmingResult.ARMED)
    assert {stands(end) for end in ends} == {(True, 180)}


def test_what_the_kernel_refuses_is_put_back(place: Place) -> None:
    near, other = place.connect()
    impossible = Wish(RULE, Keepalive(0, 20, 31))
    orders = [Order(one, wish) for one, wish in zip(place.seen(near, other), [impossible, WISH], strict=True)]
    assert results(walk.arm(place.armer, orders, {}, place.kept.update)) == {
        cookie(near): ArmingResult.FAILED,
        cookie(other): ArmingResult.ARMED,
    }
    assert (stands(near), near.getsockopt(IPPROTO_TCP, TCP_KEEPINTVL)) == ((False, 7200), 75)


def test_nothing_is_set_where_the_record_cannot_be_written(place: Place) -> None:
    near, _ = place.connect()

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        place.arm(place.seen(near), keep=full)
    assert stands(near) == (False, 7200)
    assert place.arm(place.seen(near))[0].result is ArmingResult.ARMED  # it can go on


def test_between_two_passes_it_has_nothing_of_the_kernels_mapped(place: Place) -> None:
    """A mapping would count as ours, and once the armer is closed keep the array in the kernel."""

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("bpf-map")

    before = mapped()
    place.arm(place.seen(place.connect()[0]))
    assert mapped() <= before
