"""Descriptors that come with a message: the daemon closes them, and waits for none."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keepaliveD.daemon import neighbour, signals
from keepaliveD.daemon.control import control as module
from keepaliveD.daemon.control import interface, passed
from keepaliveD.daemon.control.control import Control
from tests.daemon.control.test_control import HOST, client, said
from tests.support.patience import SOON

LINGERS = 2 * int(SOON)  # seconds for which the close of a descriptor waits
NO_SUCH_OPTION = 9999  # of sockets


@contextlib.contextmanager
def lingering() -> Iterator[socket.socket]:
    """A connection whose peer takes nothing: whoever closes it last waits."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as near:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near.connect(server.getsockname())
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGERS))
        with server.accept()[0]:
            with contextlib.suppress(BlockingIOError):
                while near.send(bytes(1 << 16)):
                    pass
            yield near


@pytest.fixture
def impatient() -> Iterator[None]:
    """Signals are caught as the daemon catches them."""
    before = signal.signal(signal.SIGALRM, signals.do_nothing)
    yield
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def sent(its: socket.socket, flags: int = 0) -> Iterator[None]:
    """A message of a client has come with the last descriptor of such a connection."""
    with lingering() as near:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", near.fileno()))]
        its.sendmsg([b"x"], rights, flags)
        near.close()
        yield


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("flags", [0, socket.MSG_OOB], ids=["in band", "out of band"])
@pytest.mark.parametrize("ends", ["read", "unread"])
def test_nobody_makes_it_wait_for_a_descriptor_that_comes_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, flags: int
) -> None:
    """One message froze the daemon for as long as the client wished, on Linux before 6.16."""
    monkeypatch.setattr(passed, "SO_PASSRIGHTS", NO_SUCH_OPTION)
    control = Control(tmp_path / "control", interface.service(lambda: HOST), time.monotonic)
    with contextlib.closing(control), client(control) as its, sent(its, flags):
        began = time.monotonic()
        if ends == "read":
            control.turn()
            assert said(its) == b"-"
        control.close()
        assert time.monotonic() - began < LINGERS / 2


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("clients", [0, 1], ids=["turned away", "not let in"])
def test_nobody_makes_it_wait_for_a_descriptor_of_a_client_that_it_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clients: int
) -> None:
    monkeypatch.setattr(passed, "SO_PASSRIGHTS", NO_SUCH_OPTION)
    monkeypatch.setattr(module, "MOST_CLIENTS", clients)
    control = Control(tmp_path / "control", interface.service(lambda: HOST), time.monotonic)
    with contextlib.closing(control), socket.socket(socket.AF_UNIX) as its:
        its.connect(str(tmp_path / "control"))
        with sent(its):
            began = time.monotonic()
            if not clients:
                control.turn()
            control.close()
            assert time.monotonic() - began < LINGERS / 2


@pytest.mark.usefixtures("impatient")
def test_nobody_makes_it_wait_for_a_descriptor_at_the_name_that_shows_it_to_other_daemons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may connect there. The daemon's end waited."""
    monkeypatch.setattr(passed, "SO_PASSRIGHTS", NO_SUCH_OPTION)
    monkeypatch.setattr(neighbour, "NAME", f"\0{tmp_path}")
    with socket.socket(socket.AF_UNIX) as its, contextlib.ExitStack() as stack:
        with neighbour.showing():
            its.connect(neighbour.NAME)
            stack.enter_context(sent(its))
            began = time.monotonic()
        assert time.monotonic() - began < LINGERS / 2


def test_a_kernel_that_can_lets_no_descriptor_come_with_a_message(tmp_path: Path) -> None:
    """Linux 6.16 can; before, what comes does no harm, as above."""
    control = Control(tmp_path / "control", interface.service(lambda: HOST), time.monotonic)
    with contextlib.closing(control), client(control) as its, contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            its.setsockopt(socket.SOL_SOCKET, passed.SO_PASSRIGHTS, 1)
            stack.enter_context(pytest.raises(PermissionError))
        socket.send_fds(its, [b"x"], [its.fileno()])
