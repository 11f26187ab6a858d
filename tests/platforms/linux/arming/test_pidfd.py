"""A socket that is on record as armed, seen again: on real sockets, those of this process."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    create_server,
    socket,
)

import pytest

from keepaliveD.model.connections import Connection
from keepaliveD.model.errors import KernelError
from keepaliveD.model.keepalive import Keepalive, SocketKeepalive
from keepaliveD.model.results import Armed, Arming, ArmingResult
from keepaliveD.model.rules import ArmAction, ArmRule, Wish
from keepaliveD.platforms.linux.arming.pidfd import SO_COOKIE, PidfdArmer
from keepaliveD.platforms.linux.owners.holders import Holders
from keepaliveD.policy.arming.choices import targets
from keepaliveD.records.arming import ArmingRecord
from tests.support import walk
from tests.support.samples import BARE
from tests.support.walk import Order

OURS = Keepalive(180, 20, 31)


def stands(sock: socket) -> SocketKeepalive:
    option = sock.getsockopt
    return SocketKeepalive(
        bool(option(SOL_SOCKET, SO_KEEPALIVE)),
        Keepalive(*(option(IPPROTO_TCP, each) for each in (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT))),
    )


@dataclasses.dataclass
class Scene:
    """A connection of this process, and who arms it."""

    sock: socket
    connection: Connection
    record: ArmingRecord
    armer: PidfdArmer

    def arm(self, times: Keepalive = OURS, *, by_hand: bool = False, again: bool = False) -> ArmingResult:
        rule = ArmRule("arm[1]", ArmAction.ENABLE, times.idle, times.interval, times.probes)
        order = Order(self.connection, Wish(rule, times))
        mine = [self.connection.cookie] if again else []
        armed = self.record.armed()
        return self._result(walk.arm(self.armer, [order], armed, self.record.write, by_hand=by_hand, again=mine))

    def disarm(self) -> ArmingResult:
        return self._result(walk.disarm(self.armer, [self.connection], self.record.armed()))

    def _result(self, armings: list[Arming]) -> ArmingResult:
        (arming,) = armings
        assert arming.after in (None, stands(self.sock)), "what is said is what stands there"
        return arming.result


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with create_server(("127.0.0.1", 0)) as server, socket() as sock:
        sock.connect(server.getsockname())
        cookie = int.from_bytes(sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
        inode = os.fstat(sock.fileno()).st_ino
        netns = os.stat("/proc/self/ns/net").st_ino
        connection = dataclasses.replace(BARE, cookie=cookie, inode=inode, netns=netns)
        holders = Holders()
        holders.held_by([os.getpid()])
        yield Scene(sock, connection, ArmingRecord(tmp_path, "b00t"), PidfdArmer(Path("/"), holders))


def test_armed_and_disarmed_it_stands_as_before(scene: Scene) -> None:
    before = stands(scene.sock)
    assert scene.arm() is ArmingResult.ARMED
    assert stands(scene.sock) == SocketKeepalive(True, OURS)
    assert scene.arm(again=True) is ArmingResult.ALREADY_SET
    assert scene.disarm() is ArmingResult.DISARMED
    assert stands(scene.sock) == before


def test_armed_twice_by_hand_it_is_disarmed_to_what_its_program_had(scene: Scene) -> None:
    before = stands(scene.sock)
    assert scene.arm(by_hand=True) is ArmingResult.ARMED
    assert scene.arm(Keepalive(60, 10, 5), by_hand=True) is ArmingResult.ARMED
    assert scene.disarm() is ArmingResult.DISARMED
    assert stands(scene.sock) == before


def test_what_a_program_sets_again_is_left(scene: Scene) -> None:
    scene.arm()
    scene.sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 3600)
    assert scene.arm(again=True) is ArmingResult.CHANGED_SINCE
    assert scene.arm() is ArmingResult.CHANGED_SINCE, "also by the next daemon"
    assert scene.disarm() is ArmingResult.CHANGED_SINCE
    assert stands(scene.sock).times.idle == 3600


def test_where_too_few_descriptors_are_left_to_find_an_owner_that_is_the_reason(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the socket may be the kernel's."""

    def few(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    holders = Holders()
    monkeypatch.setattr("keepaliveD.platforms.linux.owners.descriptors.parts", few)
    holders.find([scene.connection.inode])
    armer = PidfdArmer(Path("/"), holders)
    with pytest.raises(KernelError, match=r"owners of sockets cannot be found: Too many open files; raise the limit"):
        armer.read(targets([scene.connection]), closing=False)


def test_a_daemon_that_was_killed_between_record_and_setting_is_made_up_for(scene: Scene) -> None:
    """Nobody has set it again: it never was set."""
    scene.record.write({scene.connection.cookie: Armed(stands(scene.sock), SocketKeepalive(True, OURS))})
    assert scene.arm() is ArmingResult.ARMED
    assert stands(scene.sock) == SocketKeepalive(True, OURS)


def test_a_program_that_puts_back_what_it_had_is_not_fought_over(scene: Scene) -> None:
    """Whom this daemon itself has armed it knows to have been set."""
    before = stands(scene.sock)
    scene.arm()
    scene.disarm()
    assert scene.arm(again=True) is ArmingResult.CHANGED_SINCE
    assert stands(scene.sock) == before


def test_a_stricter_rule_reaches_what_is_armed_already_and_a_laxer_one_does_not(scene: Scene) -> None:
    """The path turned out to be hastier; what stands there is our own, and no program's choice."""
    before = stands(scene.sock)
    scene.arm()
    stricter = Keepalive(60, 10, 61)
    assert scene.arm(stricter._replace(probes=31), again=True) is ArmingResult.ARMED
    assert stands(scene.sock).times == stricter, "no outage ends it sooner"
    assert scene.arm(stricter._replace(probes=31), again=True) is ArmingResult.ALREADY_SET
    assert scene.arm(OURS, again=True) is ArmingResult.ALREADY_SET
    assert stands(scene.sock).times == stricter
    assert scene.disarm() is ArmingResult.DISARMED
    assert stands(scene.sock) == before
