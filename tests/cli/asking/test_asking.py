"""keepalivectl asks a daemon to which many others connect."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.cli.asking import asking
from keepaliveD.cli.asking.asking import listen
from keepaliveD.model.errors import KernelError
from tests.support.host import patient
from tests.support.patience import SOON
from tests.support.processes import next_line
from tests.support.rig import DIE_WITH_US

LISTENING = """
import signal, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen()
print(flush=True)
signal.pause()
"""


@pytest.fixture
def full(tmp_path: Path) -> Iterator[socket.socket]:
    """A daemon with as many connections as wait to be let in at most; it lets nobody in."""
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(socket.socket(socket.AF_UNIX))
        daemon.bind(str(tmp_path / "control"))
        daemon.listen(1)
        with contextlib.suppress(BlockingIOError):
            while True:
                other = stack.enter_context(socket.socket(socket.AF_UNIX))
                other.setblocking(False)
                other.connect(str(tmp_path / "control"))
        yield daemon


def test_a_question_waits_for_a_place(full: socket.socket, tmp_path: Path) -> None:
    answers: list[object] = []

    def ask() -> None:
        with contextlib.suppress(KernelError):
            answers.append(asking.ask(tmp_path / "control", "Status"))

    client = threading.Thread(target=ask)
    with patient():
        client.start()
        client.join(0.2)  # until it waits, most likely; it passes at once if it comes too late for that
        full.settimeout(SOON)
        with full.accept()[0], full.accept()[0], full.accept()[0] as its:
            its.recv(1 << 10)
            its.sendall(b'{"parameters": {"pid": 812}}\0')
            client.join()
    assert answers == [{"pid": 812}]


def test_a_daemon_that_lets_nobody_in_does_not_answer(
    full: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.1)
    with pytest.raises(KernelError, match=r"control: the daemon does not answer: timed out$"):
        asking.ask(tmp_path / "control", "Status")
    assert full.fileno() >= 0


def test_a_daemon_that_is_stopped_is_not_waited_for_and_says_so(tmp_path: Path) -> None:
    """By SIGSTOP, or in a terminal by Ctrl-Z: the kernel lets clients in on its behalf."""
    path = tmp_path / "control"
    command = [*DIE_WITH_US, sys.executable, "-c", LISTENING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        next_line(daemon)
        daemon.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, daemon.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(
            KernelError, match=f"process {daemon.pid}. is stopped; kill -CONT {daemon.pid} lets it go on"
        ):
            next(listen(path, "Monitor"))
        daemon.kill()
