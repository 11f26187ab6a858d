"""The kernel's counters."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from keepaliveD.platforms.linux.netstat import OpenEnds, probes_sent

NETSTAT = """\
TcpExt: SyncookiesSent TCPKeepAlive TCPOrigDataSent
TcpExt: 1 4711 99
IpExt: InNoRoutes
IpExt: 0
"""


def root(directory: Path, text: str) -> Path:
    file = directory / "proc/thread-self/net/netstat"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="ascii")
    return directory


def test_probes_are_those_that_the_kernel_has_counted(tmp_path: Path) -> None:
    assert probes_sent(root(tmp_path, NETSTAT)) == 4711


@pytest.mark.parametrize(
    "text",
    ["", NETSTAT.replace("TCPKeepAlive", "Another"), NETSTAT.replace("4711", "many"), NETSTAT.replace(" 4711 99", "")],
)
def test_what_the_kernel_does_not_say_is_not_known(tmp_path: Path, text: str) -> None:
    assert probes_sent(root(tmp_path, text)) is None


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert probes_sent(tmp_path) is None


def test_this_kernel_counts_them() -> None:
    sent = probes_sent(Path("/"))
    assert sent is not None
    assert sent >= 0


def open_ends(directory: Path, text: str) -> int | None:
    file = directory / "proc/thread-self/net/snmp"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="ascii")
    ends = OpenEnds(directory)
    with contextlib.closing(ends):
        ends.count()
        file.write_text(text.replace("726", "727"), encoding="ascii")
        return ends.count()


SNMP = """\
Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: MaxConn AttemptFails EstabResets
Tcp: -1 392 726
"""


def test_ends_of_open_connections_are_those_that_the_kernel_has_counted_by_now(tmp_path: Path) -> None:
    assert open_ends(tmp_path, SNMP) == 727


@pytest.mark.parametrize("text", ["", SNMP.replace("EstabResets", "Another"), SNMP.replace("726", "many")])
def test_ends_that_the_kernel_does_not_count_are_not_known(tmp_path: Path, text: str) -> None:
    assert open_ends(tmp_path, text) is None


def test_without_proc_no_ends_are_known(tmp_path: Path) -> None:
    with contextlib.closing(OpenEnds(tmp_path)) as ends:
        assert ends.count() is None


def test_this_kernel_counts_ends() -> None:
    with contextlib.closing(OpenEnds(Path("/"))) as ends:
        assert ends.count() is not None
