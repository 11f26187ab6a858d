"""What packets tell of the end of a connection, where nobody says which of them TCP accepted."""

from __future__ import annotations

import errno
import math
import socket
import struct
import threading
from typing import Any

import numpy as np
import pytest

from keepaliveD.model.deaths import DEATH, Reset
from keepaliveD.platforms.linux.deaths import packets
from keepaliveD.platforms.linux.deaths.packets import ACK, FIN, KEY, RST, SYN, Begun, Found, Link, Packet
from keepaliveD.platforms.linux.deaths.resets import Span, fill_in_reset
from tests.support.patience import SOON

NOW = 1000.0
AT_ONCE = Span(NOW, NOW)  # when it was destroyed
RESET = Packet(number=601, behind=601, flags=RST, window=0, timestamps=False, at=NOW - 1, ttl=63)
BEGUN = Begun(number=100, ttl=61, connects=True, at=500.0)
KEY_OF_IT = KEY.pack(40000, 22, 0, 0xFFFF0A000001, 0, 0xFFFF0A000002)


def destroyed(**facts: Any) -> Any:
    """A socket that has received 500 octets, the last one four seconds ago."""
    rows = np.zeros(1, DEATH)
    for name in DEATH.names or ():
        if DEATH[name].kind == "f":
            rows[name] = math.nan
    seen = {"bytes_received": 500, "bytes_acked": 101, "timeout": 0.2, "ended_at": NOW}
    ages = {"since_sent": 4.0, "since_received": 4.0, "since_acked": 4.0}
    for name, value in {**seen, **ages, **facts}.items():
        rows[name] = value
    return rows[0]


def found(*resets: Packet, begun: Begun | None = BEGUN, fin: Packet | None = None, syn: Packet | None = None) -> Found:
    return Found(begun, resets, fin, syn)


def test_a_reset_at_the_number_that_was_expected_has_ended_it() -> None:
    row = destroyed()
    assert fill_in_reset(row, found(RESET), AT_ONCE, 0)
    assert (row["reset"], row["error"], row["ended_at"]) == (Reset.RECEIVED, errno.ECONNRESET, NOW - 1)
    assert (row["reset_ttl"], row["peer_ttl"], row["reset_flags"]) == (63, 61, RST)
    assert row["silence"] == pytest.approx(3.0)


@pytest.mark.parametrize("number", [0, 600, 602, 100])
def test_a_forger_who_does_not_know_the_number_ends_nothing(number: int) -> None:
    assert not fill_in_reset(destroyed(), found(RESET._replace(number=number)), AT_ONCE, 0)


def test_a_flood_of_forged_resets_does_not_hide_the_true_one() -> None:
    forged = [RESET._replace(number=number) for number in range(7)]
    row = destroyed()
    assert fill_in_reset(row, found(*forged[:3], RESET, *forged[3:]), AT_ONCE, 0)
    assert row["reset"] == Reset.RECEIVED


def test_of_an_older_connection_it_is_not_sure_that_the_reset_was_accepted() -> None:
    row = destroyed()
    assert fill_in_reset(row, found(RESET, begun=None), AT_ONCE, 0)
    assert (row["reset"], row["peer_ttl"]) == (Reset.UNCHECKED, 0)


def test_what_received_something_afterwards_was_not_reset() -> None:
    assert not fill_in_reset(destroyed(since_acked=0.2), found(RESET, begun=None), AT_ONCE, 0)


def test_a_reset_after_which_this_host_sends_again_was_dropped_by_this_host() -> None:
    assert not fill_in_reset(destroyed(since_sent=0.2), found(RESET), AT_ONCE, 0)


def test_a_reset_after_the_last_retransmission_was_waited_for_comes_too_late() -> None:
    given_up = {"error": errno.ETIMEDOUT, "retransmits": 2, "timeout": 0.2}
    assert not fill_in_reset(destroyed(**given_up, since_sent=2.0), found(RESET), AT_ONCE, 5)
    assert fill_in_reset(destroyed(**given_up, since_sent=1.1), found(RESET), AT_ONCE, 5)


def test_when_it_was_destroyed_is_not_known_exactly() -> None:
    row = destroyed(since_acked=0.005)
    assert fill_in_reset(row, found(RESET), Span(NOW - 1.1, NOW), 0)


def test_a_number_that_only_the_fin_makes_right_was_not_expected_then() -> None:
    fin = Packet(600, 601, FIN | ACK, 500, timestamps=True, at=NOW - 0.5, ttl=61)
    assert not fill_in_reset(destroyed(), found(RESET, fin=fin), AT_ONCE, 0)


def test_a_connection_that_the_peer_closed_was_not_reset_by_a_forger() -> None:
    fin = Packet(601, 602, FIN | ACK, 500, timestamps=True, at=NOW - 2, ttl=61)
    assert not fill_in_reset(destroyed(), found(RESET, begun=None, fin=fin), AT_ONCE, 0)


def test_what_was_never_established_was_refused_and_not_reset() -> None:
    refused = destroyed(bytes_received=0, bytes_acked=0)
    assert not fill_in_reset(refused, found(RESET, begun=None), AT_ONCE, 0)


def test_a_reset_after_the_peer_had_closed_is_an_answer_to_what_was_written() -> None:
    fin = Packet(600, 601, FIN | ACK, 500, timestamps=True, at=NOW - 2, ttl=61)
    row = destroyed()
    assert fill_in_reset(row, found(RESET, fin=fin), AT_ONCE, 0)
    assert (row["error"], row["fin_first"], row["since_fin"]) == (errno.EPIPE, 1, 1.0)


def test_a_syn_in_the_middle_of_the_connection_is_told() -> None:
    row = destroyed()
    syn = Packet(9, 10, SYN, 500, timestamps=False, at=NOW - 1.25, ttl=60)
    assert fill_in_reset(row, found(RESET, syn=syn), AT_ONCE, 0)
    assert (row["since_syn"], row["syn_ttl"]) == (0.25, 60)


def test_retransmissions_before_the_reset_do_not_count_as_silence() -> None:
    """Data was sent 1.4 s before the third retransmission, which was answered."""
    row = destroyed(retransmits=3, since_sent=1.0, since_received=6.4, since_acked=6.4)
    assert fill_in_reset(row, found(RESET), AT_ONCE, unacked=5)
    assert row["silence"] == pytest.approx(4.0)


def test_an_end_that_a_busy_machine_shows_late_is_not_taken_for_one_of_a_busy_connection() -> None:
    """It was destroyed 3 s before it was seen, at once after the reset: what was sent brought the reset about."""
    late = Span(NOW - 5, NOW + 2)
    row = destroyed(since_sent=0.0, since_received=4.0, since_acked=4.0)
    assert fill_in_reset(row, found(RESET), late, unacked=5)
    assert row["silence"] == pytest.approx(4.0)
    probed = destroyed(since_sent=2.5, since_received=2.5, since_acked=2.5)
    assert fill_in_reset(probed, found(RESET), late, unacked=0)
    assert math.isnan(probed["silence"])
    busy = destroyed(since_sent=0.1, since_received=0.1, since_acked=0.1)
    assert fill_in_reset(busy, found(RESET), late, unacked=0)
    assert busy["silence"] < 0.2


def over_ipv4(flags: int, number: int = 7, data: bytes = b"", ttl: int = 61) -> bytes:
    segment = struct.pack("!HHIIBBHHH", 22, 40000, number, 0, 8 << 4, flags, 512, 0, 0) + packets.TIMESTAMPS + bytes(8)
    addresses = socket.inet_aton("10.0.0.2") + socket.inet_aton("10.0.0.1")
    whole = 20 + len(segment) + len(data)
    return struct.pack("!BBHHHBBH", 0x45, 0, whole, 77, 0, ttl, 6, 0) + addresses + segment + data


def over_ipv6(flags: int) -> bytes:
    segment = struct.pack("!HHIIBBHHH", 22, 40000, 7, 0, 5 << 4, flags, 512, 0, 0)
    addresses = socket.inet_pton(socket.AF_INET6, "fd00::2") + socket.inet_pton(socket.AF_INET6, "fd00::1")
    return struct.pack("!IHBB", 6 << 28 | 0x12345, len(segment), 6, 60) + addresses + segment


def test_an_ipv4_packet_is_read() -> None:
    key, packet = packets._v4(over_ipv4(FIN | ACK, data=b"abc"), NOW, local=False)
    assert key == KEY_OF_IT
    assert packet == Packet(7, 11, FIN | ACK, 512, timestamps=True, at=NOW, ttl=61, id=77)


def test_an_ipv6_packet_is_read() -> None:
    key, packet = packets._v6(over_ipv6(RST), NOW, local=True)
    assert key == KEY.pack(40000, 22, 0xFD00 << 48, 1, 0xFD00 << 48, 2)
    assert packet == Packet(7, 7, RST, 512, timestamps=False, at=NOW, ttl=60, label=0x12345, local=True)


@pytest.mark.parametrize("octets", [b"", b"\x45", over_ipv4(RST)[:25], b"\x4f" + over_ipv4(RST)[1:]])
def test_half_a_packet_harms_nothing(octets: bytes) -> None:
    with pytest.raises((struct.error, IndexError)):
        packets._v4(octets, NOW, local=False)


def test_the_first_syn_begins_a_connection_and_another_one_comes_in_its_middle() -> None:
    seen = Link()
    for number, flags in ((7, SYN | ACK), (7, SYN | ACK), (9, SYN)):
        seen.note(*packets._v4(over_ipv4(flags, number), NOW, local=False))
    known = seen.take(KEY_OF_IT)
    assert known.begun == Begun(7, 61, connects=True, at=NOW)
    assert known.syn
    assert known.syn.ttl == 61
    assert seen.take(KEY_OF_IT) == Found(None, (), None, None)


def test_memory_is_bounded_whatever_comes() -> None:
    seen = Link()
    for port in range(packets.KEPT + 100):
        for flags in (SYN, RST, FIN):
            packet = Packet(port, port, flags, 0, timestamps=False, at=NOW)
            seen.note(KEY.pack(port % 65536, 22, port, 1, 2, 3), packet)
    assert len(seen.begun) == len(seen.ended) == packets.KEPT
    for _ in range(100):
        seen.note(KEY_OF_IT, RESET)
    assert len(seen.take(KEY_OF_IT).resets) == packets.RESETS


class Waiting:
    """A socket whose close lasts until all of them are being closed."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self._barrier = barrier

    def close(self) -> None:
        self._barrier.wait(SOON)


def test_sockets_whose_close_waits_are_closed_together() -> None:
    """The kernel makes each wait, and an end of the daemon would take the sum."""
    barrier = threading.Barrier(12)
    packets.close_together([Waiting(barrier) for _ in range(12)])
    assert not barrier.broken
    assert barrier.n_waiting == 0
