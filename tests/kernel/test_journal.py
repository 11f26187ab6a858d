"""A journald that does not read its socket holds up nobody: neither the daemon nor keepalivectl."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM, socket
from subprocess import Popen
from typing import Self

import pytest

from keepaliveD.log.entries import MESSAGE_IDS
from tests.support.loopback import Host, forgetful
from tests.support.patience import SOON
from tests.support.processes import CTL, DAEMON, TUNED, Home, configuration
from tests.support.rig import TIME, UNTUNED, Namespace

MOST = 1 << 16  # octets of an entry here


class Journald:
    """A socket as journald's, read only by read(); `before` is a command under which programs find it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._socket = socket(AF_UNIX, SOCK_DGRAM)
        with contextlib.chdir(directory):  # its whole path may be too long
            self._socket.bind("socket")
            self._sender = socket(AF_UNIX, SOCK_DGRAM)
            self._sender.connect("socket")
        self._sender.setblocking(False)
        self._socket.settimeout(SOON)
        there = "/run/systemd/journal"
        mount = f'mount -t tmpfs tmpfs /run && mkdir -p {there} && mount --bind {directory} {there} && exec "$@"'
        self.before = ("unshare", "--mount", "sh", "-c", mount, "sh")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._sender.close()

    def fill(self) -> None:
        """Leave no room for anything more."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._sender.send(b"MESSAGE=of another program\n")

    def until(self, event: str) -> list[bytes]:
        """Read until an entry of this event has come; return all."""
        wanted = f"MESSAGE_ID={MESSAGE_IDS[event]}\n".encode()
        entries = [self._socket.recv(MOST)]
        while wanted not in entries[-1]:
            entries.append(self._socket.recv(MOST))
        return entries


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    """One with room for a few entries."""
    with Journald(tmp_path / "journal") as journald:
        yield journald


def daemon(home: Home, journald: Journald, *options: str) -> tuple[str, ...]:
    """The command that starts the daemon with this journald."""
    return (*journald.before, *DAEMON, *home.options, "--log-format=journal", *options)


def await_that(seen: Callable[[], bool]) -> None:
    """Return once it is so."""
    end = time.monotonic() + SOON
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.01)


def end(process: Popen[str]) -> int:
    """Stop it, and return its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(SOON)


def test_a_journald_that_never_reads_stalls_no_scan_and_no_stop(tmp_path: Path, journald: Journald) -> None:
    """The settings are applied, reapplied after somebody has changed them, and restored."""
    home = Home(tmp_path, configuration())
    journald.fill()
    with Namespace() as host, host.running(*daemon(home, journald)) as process:
        await_that(lambda: host.keepalive == TUNED)
        host.set_sysctl(TIME, 500)
        await_that(lambda: host.keepalive == TUNED)
        assert end(process) == 0
        assert host.keepalive == {**UNTUNED, TIME: 500}


def test_a_journald_that_stops_reading_and_goes_on_gets_what_it_missed(tmp_path: Path, journald: Journald) -> None:
    """What waited for room comes once there is room."""
    home = Home(tmp_path, configuration())
    with Namespace() as host, host.running(*daemon(home, journald)) as process:
        journald.until("started")
        journald.fill()
        host.set_sysctl(TIME, 500)
        await_that(lambda: host.keepalive == TUNED)
        journald.until("drift")
        assert end(process) == 0
        journald.until("restored")


def test_a_single_scan_ends_with_a_journald_that_never_reads(tmp_path: Path, journald: Journald) -> None:
    home = Home(tmp_path, configuration())
    journald.fill()
    with Namespace() as host:
        done = host.run(*daemon(home, journald, "--once"))
        assert (done.returncode, done.stderr) == (0, "")


def test_arming_by_hand_ends_with_a_journald_that_never_reads(tmp_path: Path, journald: Journald) -> None:
    journald.fill()
    with Host(tmp_path) as host:
        home = Home(tmp_path, forgetful())
        connection = host.connection()
        end = ":".join(map(str, connection.getsockname()))
        for words in (("arm", end, f"--config={home.file}"), ("disarm",)):
            done = host.namespace.run(*journald.before, *CTL, *words, f"--state-dir={home.state}")
            assert (done.returncode, done.stderr) == (0, "")
