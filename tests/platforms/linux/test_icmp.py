"""Hearing ICMP errors, which of them count, and where that is not permitted."""

from __future__ import annotations

import errno
import os
import socket
import struct
from ipaddress import ip_address

import numpy as np
import pytest

from keepaliveD.model.deaths import DEATH
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.linux.deaths import icmp
from keepaliveD.platforms.linux.deaths.icmp import Unacked


def test_whoever_may_not_read_icmp_is_told_what_that_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the table of requirements has it."""

    def refused(_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(icmp, "_listen", refused)
    errors = icmp.IcmpErrors()
    assert errors.hindered.startswith("routers are not named: ICMP cannot be read: Operation not permitted; ")
    assert (
        "; requires CAP_NET_RAW, RestrictAddressFamilies=AF_INET AF_INET6 and IPAddressAllow=any in" in errors.hindered
    )
    errors.close()


NOW = 1000.0
US, PEER, ROUTER = "10.0.0.1", "10.0.0.2", "10.0.9.9"
US_V6, PEER_V6, ROUTER_V6 = "fd00::1", "fd00::2", "fe80::9"
PORT, SERVICE, NUMBER = 40000, 22, 700
NEXT = Unacked(NUMBER, 4)


def v4(port: int = PORT, number: int = NUMBER, kind: int = icmp.UNREACHABLE, code: int = 1, source: str = US) -> bytes:
    """An error as a raw socket reads it; the quoted packet has an option, and no more than 8 octets of TCP."""
    start = struct.pack("!BBHHHBBH8x", 0x45, 0, 0, 0, 0, 60, socket.IPPROTO_ICMP, 0)
    quoted = struct.pack("!BBHHHBBH", 0x46, 0, 0, 0, 0, 1, socket.IPPROTO_TCP, 0)
    quoted += socket.inet_aton(source) + socket.inet_aton(PEER) + bytes(4)
    return start + struct.pack("!BB6x", kind, code) + quoted + struct.pack("!HHI", port, SERVICE, number)


def v6() -> bytes:
    quoted = struct.pack("!IHBB", 6 << 28, 20, socket.IPPROTO_TCP, 1)
    quoted += socket.inet_pton(socket.AF_INET6, US_V6) + socket.inet_pton(socket.AF_INET6, PEER_V6)
    return struct.pack("!BB6x", icmp.UNREACHABLE_V6, 3) + quoted + struct.pack("!HHI", PORT, SERVICE, NUMBER)


def ended(us: str = US, peer: str = PEER) -> Column:
    """A connection that ended just now, of which the peer was heard for the last time 10 s before."""
    row: Column = np.zeros(1, DEATH)[0]
    for end, address in (("local", us), ("remote", peer)):
        mapped = f"::ffff:{address}" if "." in address else address
        row[f"{end}_high"], row[f"{end}_low"] = divmod(int(ip_address(mapped)), 1 << 64)
    row["local_port"], row["remote_port"] = PORT, SERVICE
    row["ended_at"], row["since_received"], row["since_acked"] = NOW, 12.0, 10.0
    return row


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> icmp.IcmpErrors:
    """None have come yet, and none come by themselves."""
    monkeypatch.setattr(icmp.IcmpErrors, "read", lambda _: None)
    return icmp.IcmpErrors()


def told(errors: icmp.IcmpErrors, unacked: Unacked | None = NEXT, row: Column | None = None) -> tuple[int, int, int]:
    row = ended() if row is None else row
    errors.fill_in(row, unacked)
    return int(row["router_low"]) & 0xFFFFFFFF, int(row["icmp_type"]), int(row["icmp_code"])


NOTHING = (0, 0, 0)
SAID = (int(ip_address(ROUTER)), icmp.UNREACHABLE, 1)


@pytest.mark.parametrize("ahead", [0, 2, 4])
def test_an_error_about_what_was_not_acknowledged_counts(errors: icmp.IcmpErrors, ahead: int) -> None:
    errors.note(socket.AF_INET, v4(number=NUMBER + ahead), ROUTER, NOW - 1)
    assert told(errors) == SAID


def test_numbers_begin_again_after_the_largest(errors: icmp.IcmpErrors) -> None:
    errors.note(socket.AF_INET, v4(number=1), ROUTER, NOW - 1)
    assert told(errors, Unacked((1 << 32) - 2, 4)) == SAID


def test_an_ipv6_error_counts(errors: icmp.IcmpErrors) -> None:
    errors.note(socket.AF_INET6, v6(), ROUTER_V6 + "%eth0", NOW - 1)
    row = ended(US_V6, PEER_V6)
    errors.fill_in(row, NEXT)
    assert (int(row["router_high"]), int(row["router_low"])) == divmod(int(ip_address(ROUTER_V6)), 1 << 64)
    assert (int(row["icmp_type"]), int(row["icmp_code"])) == (icmp.UNREACHABLE_V6, 3)


@pytest.mark.parametrize(
    "octets",
    [
        v4(port=1),
        v4(source="10.0.0.3"),
        v4(number=NUMBER - 1),
        v4(number=NUMBER + 5),
        v4(number=0),
        v4(code=icmp.FRAGMENTATION_NEEDED),
        v4()[:-1],
        v4()[:30],
        b"",
    ],
)
def test_an_error_about_anything_else_does_not_count(errors: icmp.IcmpErrors, octets: bytes) -> None:
    errors.note(socket.AF_INET, octets, ROUTER, NOW - 1)
    assert told(errors) == NOTHING


@pytest.mark.parametrize("at", [NOW - 11, NOW + 0.5])
def test_an_error_from_before_the_silence_or_after_the_end_does_not_count(errors: icmp.IcmpErrors, at: float) -> None:
    errors.note(socket.AF_INET, v4(), ROUTER, at)
    assert told(errors) == NOTHING


def test_errors_that_do_not_count_hide_none_that_does(errors: icmp.IcmpErrors) -> None:
    errors.note(socket.AF_INET, v4(), ROUTER, NOW - 5)
    for _ in range(3):
        errors.note(socket.AF_INET, v4(number=0), "10.66.0.2", NOW - 1)
        errors.note(socket.AF_INET, v4(port=1), "10.66.0.2", NOW - 1)
        errors.note(socket.AF_INET, v4(), "10.66.0.2", NOW + 0.5)
    assert told(errors) == SAID


def test_where_no_number_is_known_the_addresses_and_ports_decide(errors: icmp.IcmpErrors) -> None:
    errors.note(socket.AF_INET, v4(number=0), ROUTER, NOW - 1)
    assert told(errors, None) == SAID
    errors = icmp.IcmpErrors()
    errors.note(socket.AF_INET, v4(port=1), ROUTER, NOW - 1)
    assert told(errors, None) == NOTHING
