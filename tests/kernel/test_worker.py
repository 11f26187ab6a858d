"""A worker that is killed, stopped or hangs costs the daemon nothing but time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from socket import SO_KEEPALIVE, SOL_SOCKET, create_connection, create_server

import psutil
import pytest

from keepaliveD.platforms.linux import capabilities
from tests.support.loopback import FORGOTTEN, Host, ends_at_once, forgetful, near_end
from tests.support.patience import SOON, wait_for
from tests.support.processes import ENABLE, MUTE, TUNED, Daemon, next_line
from tests.support.rig import Namespace

THEIRS = 1 << capabilities.SYS_ADMIN | 1 << 19  # and CAP_SYS_PTRACE


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as host:
        yield host


def worker_of(daemon: Daemon) -> int:
    """The process id of its worker."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children")
    end = time.monotonic() + SOON
    while not (found := children.read_text(encoding="ascii").split()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return int(found[-1])


def of_threads(daemon: Daemon) -> set[int]:
    """The effective capabilities that its threads have."""
    return {effective(task) for task in Path(f"/proc/{daemon.pid}/task").iterdir()}


def effective(task: Path) -> int:
    """Its effective capabilities, a bit each."""
    (line,) = [line for line in (task / "status").read_text(encoding="ascii").splitlines() if "CapEff" in line]
    return int(line.split()[1], 16)


def test_the_daemon_has_no_capability_that_only_its_worker_uses(host: Host) -> None:
    """Nor has any of its threads, while the worker has them all, arms by them, and so does the one that replaces it."""
    with host.daemon(forgetful(ENABLE, apply=True)) as daemon:
        for _ in range(2):
            sock = host.connection()
            daemon.expect("armed", within=SOON, **near_end(sock))
            wait_for(lambda: len(of_threads(daemon)) == 1)  # one of them may be in the midst of a change
            (ours,) = of_threads(daemon)
            assert ours & THEIRS == 0
            assert ours >> capabilities.NET_ADMIN & 1
            worker = worker_of(daemon)
            assert effective(Path(f"/proc/{worker}")) & THEIRS == THEIRS
            os.kill(worker, signal.SIGKILL)
        daemon.stop()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_killed_or_stopped_is_replaced(host: Host, fault: signal.Signals) -> None:
    with host.daemon(forgetful(ENABLE, apply=True)) as daemon:
        lost = worker_of(daemon)
        os.kill(lost, fault)
        sock = host.connection()
        daemon.expect("armed", within=SOON, **near_end(sock))
        assert worker_of(daemon) != lost
        ends_at_once(host, daemon)


@pytest.mark.parametrize("disarms", [False, True])
def test_a_daemon_whose_worker_is_stopped_ends_at_once(host: Host, disarms: bool) -> None:
    """Also where another worker has to put back what stood in sockets."""
    text = forgetful(ENABLE, apply=True).replace("[watch]", f"disarm_on_stop = {str(disarms).lower()}\n[watch]")
    sock = host.connection()
    with host.daemon(text) as daemon:
        daemon.expect("armed", within=SOON, **near_end(sock))
        daemon.expect("started", within=SOON)
        os.kill(worker_of(daemon), signal.SIGSTOP)
        ends_at_once(host, daemon)
        assert bool(sock.getsockopt(SOL_SOCKET, SO_KEEPALIVE)) is not disarms


def test_a_daemon_that_is_killed_takes_its_worker_along(host: Host) -> None:
    with host.daemon(forgetful(ENABLE)) as daemon:
        worker = worker_of(daemon)
        daemon.kill()
        end = time.monotonic() + SOON
        while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_locked_socket_costs_its_own_namespace_and_nothing_else(host: Host) -> None:
    """A program sends from a file whose server died; whoever asks for its socket waits, SIGKILL or not."""
    directory = host.directory / "fuse"
    directory.mkdir()
    text = forgetful(ENABLE, apply=True).replace('namespaces = "own"', 'namespaces = "all"')
    with Namespace() as guest, Namespace() as other:
        command = (*MUTE, str(directory), "sending", "127.0.0.1")
        with host.daemon(text) as daemon, guest.running(*command) as server:
            next_line(server)
            daemon.expect("hung", within=SOON, KEEPALIVE_NETNS=guest.inode)
            sock = host.connection()
            daemon.expect("armed", within=SOON, **near_end(sock))
            listener = other.inside(lambda: create_server((FORGOTTEN, 0)))
            with listener, other.inside(lambda: create_connection(listener.getsockname())) as near:
                daemon.expect("armed", within=SOON, **near_end(near))
            assert host.namespace.keepalive == TUNED
            ends_at_once(host, daemon)
