"""The unit allows the system calls that the daemon and its worker use, as they are traced, and no dangerous ones."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.filters import allowed
from tests.support.loopback import LASTING, Host, forgetful, near_end
from tests.support.patience import SOON
from tests.support.processes import ENABLE
from tests.support.rig import DIE_WITH_US, TIME
from tests.support.versions import ITERATOR, since

CALL = re.compile(r"[0-9]+ +(?:<\.\.\. )?([a-z_][a-z0-9_]*)(?:\(| resumed)")
NOT_NEEDED = {
    "bpf",  # to look for what an earlier daemon has pinned; without the drop-in nothing can be
    "mbind",  # OpenBLAS places its memory, if it may
    "rseq",  # newer than the lists of systemd 252, and in @default of later ones
}
DANGEROUS = {
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "perf_event_open", "userfaultfd", "bpf"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "add_key", "keyctl", "mount", "unshare"),
    *("open_by_handle_at", "setuid", "mknod"),
}
MANY = 300  # connections: what a scan finds is then sent in shared memory, by sendmsg(2)
BY_INTERFACE = '[[path]]\nname = "nowhere"\ninterface = "nowhere0"\ntimeout = "5min"\n'


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as host:
        yield host


@pytest.mark.parametrize(
    ("engine", "drop_ins"),
    [("netlink", ()), pytest.param("bpf", ("drop-ins/bpf.conf",), marks=since(ITERATOR))],
)
def test_whatever_the_daemon_calls_is_allowed(host: Host, engine: str, drop_ins: tuple[str, ...]) -> None:
    """It arms, reloads, loses its worker, corrects what somebody else has set, disarms and restores."""
    trace = host.directory / "trace"
    text = forgetful(ENABLE, apply=True).replace('"netlink"', f'"{engine}"').replace('"own"', '"all"') + BY_INTERFACE
    text = text.replace("[keepalive]", "[keepalive]\ndisarm_on_stop = true", 1)
    sock = host.connection()
    for _ in range(MANY):
        host.connect(LASTING)
    with host.daemon(text, through=("strace", "-f", "-qq", f"--output={trace}", *DIE_WITH_US)) as daemon:
        (traced,) = children(daemon.pid)
        daemon.expect("armed", **near_end(sock))
        for worker in children(traced):
            os.kill(worker, signal.SIGKILL)
        host.namespace.set_sysctl(TIME, 7000)
        daemon.expect("drift")
        os.kill(traced, signal.SIGHUP)
        daemon.expect("reloaded")
        os.kill(traced, signal.SIGTERM)
        daemon.expect("restored", within=SOON)
        daemon.ended()
    used = {match[1] for line in trace.read_text(errors="replace").splitlines() if (match := CALL.match(line))}
    assert {"sendmsg", "setns"} <= used
    assert used - NOT_NEEDED <= allowed(*drop_ins)


def test_nothing_dangerous_is_allowed() -> None:
    assert not DANGEROUS & allowed()
    assert DANGEROUS & allowed("drop-ins/bpf.conf") == {"bpf"}


def children(pid: int) -> list[int]:
    """Of this process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
