"""Connections across a firewall that forgets: what is announced, when, and whether it is true."""

from __future__ import annotations

import contextlib
import errno
import select
import time
from pathlib import Path
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    SO_ERROR,
    SO_KEEPALIVE,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_USER_TIMEOUT,
    AddressFamily,
    create_connection,
    create_server,
    socket,
)

import pytest

from keepaliveD.model.keepalive import TIMER_SLACK
from tests.kernel.test_rescue import by
from tests.support.patience import SOON
from tests.support.processes import CTL, TUNED, Home, configuration, program, sockets
from tests.support.processes import WARNING_TIME as SHORT
from tests.support.rig import TIME, UNTUNED, Mode, Rig
from tests.support.versions import ITERATOR, SHOWS_ULP, since

TIMEOUT = 24  # seconds without a packet after which the firewall forgets
WARNING_TIME = TIMEOUT // 2  # seconds before the cut: a busy machine may look so late
PATIENCE = TIMEOUT + SOON  # seconds in which whatever happens to a quiet connection has happened
BY_SYSTEM = 0  # the idle time of a program that sets nothing but SO_KEEPALIVE
WORRIES = ("late", "bare", "cut")
THREE_TIMEOUTS = 3 * TIMEOUT + 1
DEAD: dict[Mode, str] = {"drop": "silence", "reject": "ECONNRESET"}  # what a program gets from a dead connection


def configured(*keepalive: str, timeout: float = TIMEOUT) -> str:
    """The daemon's configuration, with more lines for [keepalive]."""
    return configuration(*keepalive, timeout=timeout).replace(f'"{SHORT}s"', f'"{WARNING_TIME}s"')


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_a_bare_connection_is_announced_in_time_and_dead_when_judged_cut(family: AddressFamily, tmp_path: Path) -> None:
    """Whoever heeds the warning keeps the connection; whoever does not finds it dead once it is called cut."""
    with (
        Rig(timeout=TIMEOUT) as rig,
        Home(tmp_path, configured()).daemon(rig.client) as daemon,
        program(rig, family) as heedful,
        program(rig, family) as heedless,
    ):
        warning = daemon.expect("bare", PATIENCE, **heedless.endpoints)
        assert 0 < warning["KEEPALIVE_LEFT_SEC"] <= WARNING_TIME
        assert warning["KEEPALIVE_PID"] == heedless.pid
        assert warning["KEEPALIVE_PROCESS"] == heedless.name
        assert warning["KEEPALIVE_PATH"] == "rig"
        assert warning["KEEPALIVE_NETNS"] == rig.client.inode
        assert not daemon.heard("cut")

        daemon.expect("bare", PATIENCE, **heedful.endpoints)
        assert heedful.speak() == "answered"

        daemon.expect("cut", PATIENCE, **heedless.endpoints)
        assert heedless.speak() == "ECONNRESET"
        assert heedful.speak() == "answered"

        daemon.expect("cut", PATIENCE, **heedful.endpoints)
        assert heedful.speak() == "ECONNRESET"


def test_a_connection_whose_peer_probes_is_never_announced_and_lives(tmp_path: Path) -> None:
    """The peer's probes refresh no age that the kernel shows, yet the firewall sees them."""
    with (
        Rig(timeout=TIMEOUT) as rig,
        Home(tmp_path, configured()).daemon(rig.client) as daemon,
        program(rig) as served,
    ):
        served.far.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 2)
        served.far.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, 1)
        served.far.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        assert not daemon.heard(*WORRIES, within=THREE_TIMEOUTS)
        assert served.speak() == "answered"


def test_a_connection_armed_before_the_sysctl_was_lowered_is_announced_as_late(tmp_path: Path) -> None:
    """Its timer still stands at two hours: lowering the sysctl does not shorten it."""
    with Rig(timeout=TIMEOUT) as rig, program(rig, keepalive=BY_SYSTEM) as early:
        assert rig.client.keepalive == UNTUNED
        with Home(tmp_path, configured('arm = "observe"')).daemon(rig.client) as daemon:
            assert rig.client.keepalive == TUNED
            warning = daemon.expect("late", PATIENCE, **early.endpoints)
            assert warning["KEEPALIVE_LEFT_SEC"] > 0
            assert warning["KEEPALIVE_DUE"] == "keepalive"
            assert UNTUNED[TIME] - TIMEOUT < warning["KEEPALIVE_DUE_SEC"] < UNTUNED[TIME]
            daemon.expect("cut", PATIENCE, **early.endpoints)
            assert early.speak() == "ECONNRESET"


def test_a_probe_due_just_before_the_firewall_forgets_is_announced_as_late(tmp_path: Path) -> None:
    """Timers fire late: by up to an eighth."""
    with (
        Rig(timeout=TIMEOUT) as rig,
        Home(tmp_path, configured(timeout=TIMEOUT + 0.3)).daemon(rig.client) as daemon,
        program(rig, keepalive=TIMEOUT) as unlucky,
    ):
        assert daemon.expect("late", PATIENCE, **unlucky.endpoints)["KEEPALIVE_LEFT_SEC"] > 0


def test_a_timer_that_ran_before_the_daemon_came_is_known_in_time_by_netlink(tmp_path: Path) -> None:
    """It ends before the path forgets, but then only checks: sock_diag shows its end, and not that it is so long."""
    idle, spoke_after = TIMEOUT + 12, TIMEOUT - 10
    with Rig(timeout=TIMEOUT) as rig, program(rig, keepalive=idle) as early:
        time.sleep(spoke_after)  # the timer runs meanwhile
        assert early.speak() == "answered"
        with Home(tmp_path, by("netlink", configured("apply = false"))).daemon(rig.client) as daemon:
            warning = daemon.expect("late", PATIENCE, **early.endpoints)
            assert warning["KEEPALIVE_LEFT_SEC"] > WARNING_TIME / 4
            late_by = warning["KEEPALIVE_DUE_SEC"] - warning["KEEPALIVE_LEFT_SEC"]
            assert late_by == pytest.approx(idle - TIMEOUT, abs=1)


@pytest.mark.parametrize("mode", ["drop", "reject"])
def test_a_program_that_sets_keepalive_lives_under_the_daemon_and_dies_without(mode: Mode, tmp_path: Path) -> None:
    """The same program, the same firewall, three timeouts of silence."""
    with (
        Rig(mode, TIMEOUT) as tuned,
        Rig(mode, TIMEOUT) as untuned,
        Home(tmp_path, configured()).daemon(tuned.client) as daemon,
        program(tuned, keepalive=BY_SYSTEM) as kept,
        program(untuned, keepalive=BY_SYSTEM) as lost,
    ):
        assert not daemon.heard(*WORRIES, within=THREE_TIMEOUTS)
        assert kept.speak() == "answered"
        assert lost.speak() == DEAD[mode]


@since(ITERATOR)
def test_a_connection_that_its_user_timeout_ends_is_not_safe_and_ends_when_that_is_said(tmp_path: Path) -> None:
    """Each probe would leave long before the path forgets; but none is answered."""
    home = Home(tmp_path, by("bpf", configured(timeout=THREE_TIMEOUTS)))
    with (
        Rig("drop", timeout=THREE_TIMEOUTS) as rig,
        rig.server.inside(lambda: create_server(("10.99.2.2", 1000))) as listener,
        rig.client.inside(lambda: create_connection(listener.getsockname())) as near,
        listener.accept()[0],
    ):
        near.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        near.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, 8)
        near.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1500)
        near.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 1)
        rig.firewall.nft("flush chain inet guard through")
        deadline = time.monotonic() + PATIENCE
        while (seen := sockets(rig.client, home)[0])["due"] != "end":
            assert (seen["verdict"], time.monotonic() < deadline) == ("safe", True), seen
        read_by = time.monotonic()
        assert (seen["verdict"], seen["confirmed"]) == ("late", False)
        assert select.select([near], [], [], PATIENCE)[0], "the connection did not end"
        ended_in = time.monotonic() - read_by
        assert near.getsockopt(SOL_SOCKET, SO_ERROR) == errno.ETIMEDOUT
        assert ended_in < seen["due_in"] * (1 + TIMER_SLACK) + 1, (ended_in, seen)
        assert ended_in > seen["due_in"] - 2, (ended_in, seen)


@since(SHOWS_ULP)
def test_the_reader_of_a_warning_or_list_learns_that_a_subflow_cannot_be_armed(tmp_path: Path) -> None:
    home = Home(tmp_path, by("netlink", configured("apply = false", 'arm = "observe"')))

    def make(rig: Rig) -> tuple[socket, socket]:
        listener = rig.server.inside(lambda: socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP))
        near = rig.client.inside(lambda: socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP))
        with listener:
            listener.bind(("10.99.2.2", 1000))
            listener.listen()
            near.connect(listener.getsockname())
            return near, listener.accept()[0]

    with Rig(timeout=TIMEOUT) as rig, contextlib.ExitStack() as ends, home.daemon(rig.client) as daemon:
        for end in make(rig):
            ends.enter_context(end)
        warning = daemon.expect("bare", PATIENCE)
        assert str(warning["MESSAGE"]).endswith('cannot be armed: MPTCP subflow: requires watch.engine = "bpf"')
        done = rig.client.run(*CTL, "sockets", f"--config={home.file}")
    assert "off (MPTCP)" in done.stdout
    assert 'cannot be armed: requires watch.engine = "bpf"' in done.stderr
