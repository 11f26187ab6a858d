"""Connections that IPVS balances: what is to be known of them is said at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.platforms import detect

HEADER = """IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
"""
SERVICE = """TCP  0A600001:01BB rr
  -> 0A01020C:20FB      Masq    1      0          0
"""


@pytest.mark.parametrize(
    ("text", "said"), [(HEADER + SERVICE, True), (HEADER, False), ("UDP  0A60000A:0035 rr\n", False)]
)
def test_a_host_that_balances_connections_is_told_of_their_own_timeout(text: str, said: bool, tmp_path: Path) -> None:
    file = tmp_path / "proc/net/ip_vs"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="ascii")
    assert any("ipvsadm -l --timeout" in note for note in detect("linux", tmp_path).notes) == said


def test_a_host_without_ipvs_is_told_nothing(tmp_path: Path) -> None:
    assert not detect("linux", tmp_path).notes
