"""The kernel's counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.platforms.linux.netstat import probes_sent

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
