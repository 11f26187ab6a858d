"""How a connection was closed, as its sequence numbers tell where nobody sees who closed it."""

from __future__ import annotations

import errno
import math
from typing import Any

import numpy as np
import pytest

from keepaliveD.model.deaths import DEATH
from keepaliveD.model.sockets import TcpState
from keepaliveD.platforms.linux.deaths import closes
from keepaliveD.platforms.linux.deaths.closes import Sent, fill_in_close
from keepaliveD.platforms.linux.deaths.packets import ACK, FIN, RST, Begun, Found, Packet
from keepaliveD.platforms.linux.deaths.resets import Span

NOW = 1000.0
AT_ONCE = Span(NOW, NOW)  # when it was destroyed
NO_FIN, WITH_FIN = Sent(unacked=0, waiting=0, surplus=1), Sent(unacked=0, waiting=0, surplus=2)
BEGUN = Begun(number=100, ttl=61, connects=True, at=500.0, acknowledged=7001)
THEIR_FIN = Packet(600, 601, FIN | ACK, 500, timestamps=True, at=NOW - 1, ttl=61, acknowledged=7101)


def ended(sent: Sent, **facts: Any) -> Any:
    """A socket that has sent 100 octets, which were acknowledged, and received 500 numbers, 20 s ago."""
    rows = np.zeros(1, DEATH)
    for name in DEATH.names or ():
        if DEATH[name].kind == "f":
            rows[name] = math.nan
    seen = {"bytes_received": 500, "bytes_acked": 100 + sent.surplus, "since_sent": 20.0, "since_received": 20.0}
    for name, value in {**seen, **facts}.items():
        rows[name] = value
    return rows[0]


def found(begun: Begun | None = BEGUN, fin: Packet | None = None) -> Found:
    return Found(begun, (), fin, None)


def test_a_socket_that_was_destroyed_has_sent_no_fin() -> None:
    row = ended(NO_FIN)
    assert fill_in_close(row, found(), NO_FIN, AT_ONCE, idle=10)
    assert (row["error"], row["state"], row["sent_reset"]) == (errno.ECONNABORTED, TcpState.ESTABLISHED, 1)


def test_a_socket_that_was_destroyed_after_the_peer_had_closed_has_sent_no_fin() -> None:
    row = ended(NO_FIN)
    assert fill_in_close(row, found(fin=THEIR_FIN), NO_FIN, AT_ONCE, idle=10)
    assert (row["error"], row["state"], row["fin_first"]) == (errno.ECONNABORTED, TcpState.CLOSE_WAIT, 1)


@pytest.mark.parametrize("fin", [None, THEIR_FIN._replace(acknowledged=7102)])
def test_a_program_that_closes_first_closes_in_the_ordinary_way(fin: Packet | None) -> None:
    assert not fill_in_close(ended(WITH_FIN), found(fin=fin), WITH_FIN, AT_ONCE, idle=10)


def test_a_peer_that_closes_after_idle_is_told() -> None:
    row = ended(WITH_FIN)
    assert fill_in_close(row, found(fin=THEIR_FIN), WITH_FIN, AT_ONCE, idle=10)
    assert (row["fin_first"], row["error"], row["silence"], row["since_fin"]) == (1, 0, 19.0, 1.0)


@pytest.mark.parametrize(("since_sent", "idle"), [(5.0, 10), (0.5, 10), (20.0, 0)])
def test_a_peer_that_closes_in_use_is_not_told_nor_where_that_is_not_asked_for(since_sent: float, idle: float) -> None:
    row = ended(WITH_FIN, since_sent=since_sent)
    assert not fill_in_close(row, found(fin=THEIR_FIN), WITH_FIN, AT_ONCE, idle=idle)


def test_of_a_peer_that_connected_to_this_host_it_is_not_known_who_closed_first() -> None:
    by_the_peer, sent = BEGUN._replace(connects=False, acknowledged=0), Sent(0, 0, surplus=1)
    assert not fill_in_close(ended(sent), found(by_the_peer, THEIR_FIN), sent, AT_ONCE, idle=10)


def test_a_program_that_closes_with_unread_data_is_told() -> None:
    row = ended(NO_FIN, unread=6)
    assert fill_in_close(row, found(), NO_FIN, AT_ONCE, idle=10)
    assert (row["error"], row["unread"], row["shutdown"], row["sent_reset"]) == (0, 6, 3, 1)


def test_a_program_that_closes_with_unread_data_after_its_own_fin_is_told() -> None:
    row = ended(WITH_FIN, unread=6)
    assert fill_in_close(row, found(), WITH_FIN, AT_ONCE, idle=10)
    assert row["state"] == TcpState.FIN_WAIT2


def test_unread_data_is_no_matter_once_both_ends_have_closed() -> None:
    """The kernel sends no reset then."""
    assert not fill_in_close(ended(WITH_FIN, unread=6), found(fin=THEIR_FIN), WITH_FIN, AT_ONCE, idle=0)


@pytest.mark.parametrize(("octets", "fin", "unread"), [(0, None, 0), (1, None, 0), (6, None, 6), (6, THEIR_FIN, 5)])
def test_a_fin_that_was_not_read_is_no_data(octets: int, fin: Packet | None, unread: int) -> None:
    assert closes.unread(ended(NO_FIN, unread=octets), found(fin=fin)) == unread


@pytest.mark.parametrize("facts", [{"bytes_received": 0, "bytes_acked": 0}, {"error": errno.ECONNRESET}])
def test_what_was_never_established_or_has_lost_a_packet_was_not_destroyed(facts: dict[str, int]) -> None:
    assert not fill_in_close(ended(NO_FIN, **facts), found(), NO_FIN, AT_ONCE, idle=10)


def test_what_waited_for_the_peer_may_have_been_given_up() -> None:
    """As by TCP_USER_TIMEOUT, when the peer reads nothing and answers each probe of its window."""
    waiting = NO_FIN._replace(waiting=4)
    assert not fill_in_close(ended(waiting, unsent=4), found(), waiting, AT_ONCE, idle=10)


def test_of_a_connection_that_is_older_it_is_not_known_whether_it_sent_a_fin() -> None:
    assert not fill_in_close(ended(NO_FIN), found(begun=None), NO_FIN, AT_ONCE, idle=10)


def test_a_reset_after_both_ends_had_closed_has_ended_nothing() -> None:
    """It ends what is left of the connection, TIME_WAIT (RFC 1337)."""
    late = Found(BEGUN, (Packet(601, 601, RST, 0, timestamps=False, at=NOW, ttl=61),), THEIR_FIN, None)
    assert closes.had_closed(ended(WITH_FIN), late, WITH_FIN)
    assert not closes.had_closed(ended(NO_FIN), late, NO_FIN)
    waiting = WITH_FIN._replace(waiting=1)
    assert not closes.had_closed(ended(waiting), late, waiting)
