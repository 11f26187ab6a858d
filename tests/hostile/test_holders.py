"""Programs that fork, exec, pass, juggle and hide what the daemon looks for, by accident or on purpose."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX, send_fds, socket
from subprocess import Popen

import pytest

from tests.support.loopback import A_FEW_SCANS, FORGOTTEN, LASTING, SAFE, Host, far_end, forgetful, near_end, settings
from tests.support.patience import SOON, family
from tests.support.processes import ENABLE, OBSERVE, SCAN, Daemon, next_line, tell

USER_NAMESPACE = ("unshare", "--user", "--map-root-user")
BALLS = 8


def with_keepalive(program: Popen[str]) -> list[bool]:
    """Which of its connections have it, as it says."""
    tell(program)
    return [word == "1" for word in next_line(program).split()]


@pytest.mark.parametrize(
    ("behaviour", "through"),
    [("many_descriptors", ()), ("evil_name", ()), ("plain", USER_NAMESPACE)],
    ids=["20,000 descriptors", "a name that is no text", "a user namespace"],
)
def test_it_is_armed_nevertheless(behaviour: str, through: tuple[str, ...], host: Host) -> None:
    """And told of in one printable line."""
    program = host.program(behaviour, through=through)
    far = host.accept()
    with host.daemon(forgetful(ENABLE)) as daemon:
        entry = daemon.expect("armed", **far_end(far))
        assert entry["KEEPALIVE_PID"] == program.pid
        assert entry["MESSAGE"].isprintable()
        assert entry["KEEPALIVE_PROCESS"].isprintable()
        assert with_keepalive(program) == [True]
        daemon.stop()


def holds(daemon: Daemon, sock: socket) -> bool:
    """Whether the daemon, or a worker of it, has a descriptor of this socket."""
    name = f"socket:[{os.fstat(sock.fileno()).st_ino}]"
    open_files = (each for pid in family(daemon.pid) for each in Path(f"/proc/{pid}/fd").iterdir())
    return any(os.path.islink(each) and os.readlink(each) == name for each in open_files)


def test_a_socket_of_several_descriptors_in_several_processes_is_armed_once(host: Host) -> None:
    """And the daemon keeps none of them."""
    sock = host.connection()
    with (
        sock.dup(),
        subprocess.Popen(["sleep", "60"], pass_fds=[sock.fileno()]) as one,
        subprocess.Popen(["sleep", "60"], pass_fds=[sock.fileno()]) as two,
        host.daemon(forgetful(OBSERVE)) as daemon,
    ):
        daemon.reload(forgetful(ENABLE))
        daemon.expect("armed", **near_end(sock))
        time.sleep(A_FEW_SCANS)
        assert len(daemon.heard("armed", "unarmed")) == 1
        assert not holds(daemon, sock)
        one.kill()
        two.kill()
    assert settings(sock) == SAFE


def test_the_connection_is_found_again_behind_an_exec_under_another_descriptor(host: Host) -> None:
    """Though the daemon knew it by the number that another connection has now."""
    with host.daemon(forgetful(OBSERVE, timeout=12)) as daemon:
        program = host.program("changer")
        far = host.accept()
        warned, *_ = daemon.heard("bare", "cut", within=SOON, **far_end(far))
        assert warned["KEEPALIVE_PID"] == program.pid
        tell(program)
        host.accept(LASTING)
        daemon.reload(forgetful(ENABLE))
        assert daemon.expect("armed", **far_end(far))["KEEPALIVE_PID"] == program.pid
        assert with_keepalive(program) == [True, False]
        daemon.stop()


@contextmanager
def passed_on(host: Host, sock: socket) -> Iterator[Popen[str]]:
    """It is on its way to this process, which takes it on the first line; nobody else has it."""
    path = str(host.directory / "receiver")
    program = host.program("receiver", path)
    assert next_line(program) == "ready\n"
    with socket(AF_UNIX) as channel:
        channel.connect(path)
        send_fds(channel, [b"x"], [sock.fileno()])
        sock.close()
        yield program


def test_a_socket_is_followed_to_the_process_that_it_was_passed_to(host: Host) -> None:
    """Though nobody holds it at the first look."""
    sock = host.connection()
    told = near_end(sock)
    with passed_on(host, sock) as program, host.daemon(forgetful(ENABLE)) as daemon:
        assert not daemon.heard("armed")
        tell(program)
        assert daemon.expect("armed", **told)["KEEPALIVE_PID"] == program.pid
        assert with_keepalive(program) == [True]
        daemon.stop()


def test_a_socket_that_nobody_holds_is_reported_once(host: Host) -> None:
    """After it was looked for a few times."""
    sock = host.connection()
    told = near_end(sock)
    with passed_on(host, sock), host.daemon(forgetful(ENABLE)) as daemon:
        assert daemon.expect("unarmed", **told)["KEEPALIVE_RESULT"] in ("owner-not-found", "owner-not-visible")
        time.sleep(A_FEW_SCANS)
        assert len(daemon.heard("unarmed", "armed", **told)) == 1
        daemon.stop()


def test_a_connection_that_wanders_from_process_to_process_is_armed_in_the_end(host: Host) -> None:
    """Each of them lives for a moment, and all that the daemon finds out is old by then."""
    with host.daemon(forgetful(ENABLE)) as daemon:
        program = host.program("wanderer", str(2 * SCAN))
        far = host.accept()
        daemon.expect("armed", **far_end(far))
        assert with_keepalive(program) == [True]
        daemon.stop()


def test_of_connections_that_take_turns_at_a_descriptor_only_those_at_risk_are_armed(host: Host) -> None:
    """The cookie tells them apart, however fast they change."""
    program = host.program("juggler", str(BALLS))
    for address in [FORGOTTEN] * BALLS + [LASTING] * BALLS:
        host.accept(address)
    with host.daemon(forgetful(ENABLE)) as daemon:
        deadline = time.monotonic() + SOON
        while sum(armed := with_keepalive(program)) < BALLS and time.monotonic() < deadline:
            time.sleep(0.1)
        assert armed == [True] * BALLS + [False] * BALLS
        daemon.stop()
