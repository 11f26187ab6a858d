"""Which processes have sockets open, as the kernel's own pass over all open files tells."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from socket import socket

import pytest

from keepaliveD.platforms import touching
from keepaliveD.platforms.linux.bpf.holders import BpfHolders
from keepaliveD.platforms.linux.owners.holders import Holder, Holders
from tests.support.processes import next_line
from tests.support.rig import DIE_WITH_US
from tests.support.versions import ITERATOR, since

pytestmark = since(ITERATOR)

HERE = """
import os, socket
from keepaliveD.platforms.linux.bpf.holders import BpfHolders
with socket.socket() as sock:
    inode = os.fstat(sock.fileno()).st_ino
    print(BpfHolders().find([inode]) == {inode: (os.getpid(), sock.fileno())}, os.getpid())
"""
WITH_OWN_FILES = """
import ctypes, os, socket, threading
def keep():
    assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
    sock = socket.socket()
    print(os.fstat(sock.fileno()).st_ino, flush=True)
    os.read(0, 1)
threading.Thread(target=keep).start()
"""

NAMED = """
import ctypes, os, signal, sys
name, user, keeps_capabilities = sys.argv[1:]
control = ctypes.CDLL(None).prctl
control(15, name.encode(), 0, 0, 0)
control(8, int(keeps_capabilities), 0, 0, 0)
os.setuid(int(user))
control(1, signal.SIGKILL, 0, 0, 0)
print(flush=True)
signal.pause()
"""


@pytest.fixture
def holders() -> Iterator[BpfHolders]:
    finder = BpfHolders()
    yield finder
    finder.close()


def inode(sock: socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_a_process_and_its_number_for_each_socket_are_found_in_one_pass(holders: BpfHolders) -> None:
    """And nothing of what is not a socket, or is not asked for."""
    with socket() as one, socket() as two, socket() as _other, open("/dev/null", "rb") as file:
        wanted = [inode(one), inode(two), os.fstat(file.fileno()).st_ino]
        assert holders.find(wanted) == {inode(each): (os.getpid(), each.fileno()) for each in (one, two)}
        assert holders.find([inode(two)]) == {inode(two): (os.getpid(), two.fileno())}
        asked = inode(one)
    assert holders.find([asked]) == {}


def test_of_several_holders_the_lowest_process_and_number_counts(holders: BpfHolders) -> None:
    """As where /proc is read."""
    with socket() as sock, sock.dup() as again:
        command = [*DIE_WITH_US, "sleep", "60"]
        with subprocess.Popen(command, pass_fds=[sock.fileno(), again.fileno()]) as child:
            lowest = min(os.getpid(), child.pid), min(sock.fileno(), again.fileno())
            assert holders.find([inode(sock)]) == {inode(sock): lowest}
            child.kill()


@pytest.mark.parametrize(
    ("user", "through", "is_holder"),
    [
        pytest.param(("0", "0"), (), False, id="root's"),
        pytest.param(("65534", "1"), (), False, id="the service's"),
        pytest.param(("65534", "0"), (), True, id="a stranger's"),
        pytest.param(("0", "0"), ("unshare", "--user", "--map-root-user"), True, id="a stranger's own root's"),
    ],
)
def test_a_worker_is_nobodys_holder_and_nobody_else_passes_for_one(
    holders: BpfHolders, user: tuple[str, str], through: tuple[str, ...], is_holder: bool
) -> None:
    """It may hang with a duplicate for hours; a process that only has its name holds what it holds."""
    sock = socket()
    command = [*DIE_WITH_US, *through, sys.executable, "-c", NAMED, touching.WORKER.decode(), *user]
    with subprocess.Popen(command, pass_fds=[sock.fileno()], stdout=subprocess.PIPE, text=True) as program:
        wanted, held = inode(sock), Holder(program.pid, sock.fileno())
        sock.close()
        assert next_line(program) == "\n"
        assert holders.find([wanted]) == ({wanted: held} if is_holder else {})
        by_proc = Holders()
        assert by_proc.find([wanted]) == ({wanted: held} if is_holder else {})
        its = by_proc.held_by([program.pid])[program.pid]
        assert isinstance(its, frozenset)
        assert (wanted in its) == is_holder
        assert by_proc.known(wanted) == (held if is_holder else None)
        program.kill()


def test_a_process_in_a_pid_namespace_is_named_as_it_is_seen_there() -> None:
    """Which is how /proc there names it."""
    unshare = [*DIE_WITH_US, "unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", HERE]
    done = subprocess.run(unshare, capture_output=True, text=True, check=True)
    assert done.stdout == "True 1\n"


def test_a_thread_with_files_of_its_own_is_not_taken_for_its_process(holders: BpfHolders) -> None:
    """Neither /proc nor pidfd_getfd(2) reaches these."""
    command = [*DIE_WITH_US, sys.executable, "-c", WITH_OWN_FILES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert holders.find([int(next_line(program))]) == {}
