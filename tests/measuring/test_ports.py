"""Connections of a measurement leave from any port, so that they take any of the devices that share the path."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from socket import AF_INET, AF_INET6, AddressFamily, socket

import pytest

from keepaliveD.measuring import ports
from keepaliveD.measuring.ports import Ports


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's settings, of which a test writes its own."""
    monkeypatch.setattr(ports, "RANGE", tmp_path / "ip_local_port_range")
    monkeypatch.setattr(ports, "RESERVED", tmp_path / "ip_local_reserved_ports")
    return tmp_path


def taken(count: int, family: AddressFamily = AF_INET) -> set[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket(family)) for _ in range(count)]
        ports = Ports()
        for each in sockets:
            ports.take_any(each)
        return {each.getsockname()[1] for each in sockets}


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
@pytest.mark.parametrize("modulus", [2, 3, 4])
def test_connections_leave_from_ports_of_all_residues(family: AddressFamily, modulus: int) -> None:
    assert {port % modulus for port in taken(78, family)} == set(range(modulus))


def test_no_port_is_taken_that_is_reserved_or_out_of_range(allowed: Path) -> None:
    (allowed / "ip_local_port_range").write_text("50000\t50019\n")
    (allowed / "ip_local_reserved_ports").write_text("50000,50003-50018\n")
    assert taken(4) - {0} <= {50001, 50002, 50019}


@pytest.mark.parametrize("text", [None, "", "50000"])
def test_the_kernel_chooses_where_its_range_is_not_known(allowed: Path, text: str | None) -> None:
    if text is not None:
        (allowed / "ip_local_port_range").write_text(text)
    assert taken(2) == {0}


def test_no_port_is_taken_twice(allowed: Path) -> None:
    """A new connection from the port of a forgotten one freed that, which then counted as left open."""
    (allowed / "ip_local_port_range").write_text("50000\t50003\n")
    (allowed / "ip_local_reserved_ports").write_text("\n")
    ports = Ports()

    def left_from() -> int:
        with socket(AF_INET) as sock:
            ports.take_any(sock)
            port: int = sock.getsockname()[1]
            return port

    took = [port for port in (left_from() for _ in range(20)) if port]
    assert took
    assert len(set(took)) == len(took)
