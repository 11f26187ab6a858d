"""A process of which nobody can read anything hangs nobody who tries."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.model.errors import Exit
from keepaliveD.platforms import processes
from keepaliveD.platforms.linux import namespaces
from tests.support.loopback import BARE, FORGOTTEN, Host, forgetful, near_end, settings
from tests.support.processes import CTL, ENABLE, MUTE, next_line
from tests.support.rig import UNTUNED


@pytest.fixture(autouse=True)
def hung(host: Host) -> Iterator[int]:
    """A process that hangs in execve, and was there first."""
    with hanging(host, 1) as pid:
        yield pid


@contextlib.contextmanager
def hanging(host: Host, number: int) -> Iterator[int]:
    """As many processes that hang; the id of the last."""
    directory = host.directory / f"fuse-{number}"
    directory.mkdir()
    with host.namespace.running(*MUTE, str(directory), "executing", str(number)) as server:
        yield [int(next_line(server)) for _ in range(number)][-1]


@pytest.mark.parametrize("namespaces", ["own", "all"])
def test_a_daemon_starts_arms_and_stops_beside_a_process_that_hangs(host: Host, namespaces: str) -> None:
    """Anybody can make one: neither namespaces nor descriptors of it can be read, and whoever tries waits for ever."""
    sock = host.connection()
    text = forgetful(ENABLE, apply=True).replace('namespaces = "own"', f'namespaces = "{namespaces}"')
    with host.daemon(text) as daemon:
        daemon.expect("armed", **near_end(sock))
        daemon.stop()
    assert host.namespace.keepalive == UNTUNED


def test_keepalivectl_arms_and_disarms_beside_a_process_that_hangs(host: Host) -> None:
    sock = host.connection()
    (host.directory / "config.toml").write_text(forgetful(), encoding="utf-8")
    where = ("--config", str(host.directory / "config.toml"), "--state-dir", str(host.directory / "state"))
    peer = "{}:{}".format(*sock.getpeername())
    armed = host.namespace.run(*CTL, "arm", peer, *where)
    assert (armed.returncode, armed.stderr) == (0, "")
    disarmed = host.namespace.run(*CTL, "disarm", *where[2:])
    assert (disarmed.returncode, disarmed.stderr) == (0, "")
    assert settings(sock) == BARE


def test_a_process_that_hangs_is_named_to_who_asks_for_it(host: Host, hung: int) -> None:
    """Rather than that nobody answers."""
    done = host.namespace.run(*CTL, "arm", str(hung))
    assert (done.returncode, done.stderr) == (
        Exit.NOINPUT,
        f"keepalivectl: process {hung}: hangs in execve(2); end it with SIGKILL\n",
    )


def test_a_process_that_begins_to_hang_while_its_namespace_is_opened_is_given_up_like_any_other(
    host: Host, hung: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cost a worker, and whoever watched the worker could have many do so one after the other."""
    monkeypatch.setattr(processes, "_executes", lambda _: False)  # when it was seen last
    with pytest.raises(TimeoutError):
        namespaces.inside(f"/proc/{hung}/ns/net", host.namespace.inode, lambda: None)
    assert processes.hangs(hung)


MANY = 40


@pytest.mark.parametrize("namespaces", ["own", "all"])
def test_many_processes_that_hang_hide_nobody(host: Host, namespaces: str) -> None:
    """Each of them cost two seconds, and once there were 32, no owner was found and no other namespace was seen."""
    text = forgetful(ENABLE, apply=True).replace('namespaces = "own"', f'namespaces = "{namespaces}"')
    with hanging(host, MANY), host.daemon(text) as daemon:
        first = host.connection()
        assert daemon.expect("armed", **near_end(first))["KEEPALIVE_PID"] == os.getpid()
        with hanging(host, MANY + 1):
            second = host.connection()
            assert daemon.expect("armed", **near_end(second))["KEEPALIVE_PID"] == os.getpid()
            daemon.stop()
    assert host.namespace.keepalive == UNTUNED


HOLDER = """
import socket, sys
name, address, port = sys.argv[1:]
sock = socket.create_connection((address, int(port)))
with open("/proc/self/comm", "w") as file:
    file.write(name)
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holding(host: Host, name: str) -> Iterator[None]:
    """A process that is called so, with a connection that is forgotten soon."""
    address, port = host.listeners[FORGOTTEN].getsockname()
    with host.namespace.running(sys.executable, "-c", HOLDER, name, address, str(port)) as holder:
        assert next_line(holder) == "\n"
        yield


@pytest.mark.parametrize("view", ["daemon's", "scan's"])
def test_processes_that_hang_hide_no_connection_of_one_with_their_name(host: Host, view: str) -> None:
    """Each of them cost a second and more, and the daemon's view was given up for any of them."""
    reached = ("env", f"RUNTIME_DIRECTORY={host.directory}")
    ask = (*reached, *CTL, "why", f"--state-dir={host.directory}/state")
    with hanging(host, MANY) as pid:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
        with holding(host, name):
            if view == "daemon's":
                with host.daemon(forgetful(), through=reached):
                    done = host.namespace.run(*ask, name)
            else:
                file = host.directory / "config.toml"
                file.write_text(forgetful(), encoding="utf-8")
                done = host.namespace.run(*ask, name, f"--config={file}")
    assert f"process {name} (uid 0): 1 connection: 1 bare" in done.stdout
    assert ("As of the daemon's last scan" in done.stdout) == (view == "daemon's")
    assert done.stderr == (
        f"note: {MANY} processes called {name} do not answer: their connections are not counted; "
        "if they hang in execve(2), end them with SIGKILL\n"
    )


def test_a_process_that_is_not_there_is_not_said_to_hang(host: Host) -> None:
    with hanging(host, MANY):
        done = host.namespace.run(*CTL, "arm", "4194303")
    assert (done.returncode, done.stderr) == (Exit.NOINPUT, "keepalivectl: process 4194303: does not exist\n")
