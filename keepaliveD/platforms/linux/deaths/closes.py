"""How a connection was closed, where nobody tells who did it: its sequence numbers say which end sent a FIN.

A program that closes before it has read everything sends a reset and no FIN, and so does whoever destroys a socket.
Source: __tcp_close, tcp_abort, tcp_get_info (net/ipv4/tcp.c), tcp_diag_get_info (net/ipv4/tcp_diag.c).
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from keepaliveD.model.deaths import Reset
from keepaliveD.model.sockets import Column, TcpState
from keepaliveD.platforms.linux.deaths.packets import Found, Packet
from keepaliveD.platforms.linux.deaths.resets import NUMBERS, Span, expected

WHOLE = 3  # of shutdown: both directions
LAST_ACK = 9  # of TCP states: the peer has closed, then this end


class Sent(NamedTuple):
    """What had become of the sequence numbers of this end of a connection when its socket was destroyed.

    `surplus` are numbers that are no data: that of the SYN where this host connected, and that of the FIN it sent.
    """

    unacked: int  # bytes of data that the peer had not acknowledged
    waiting: int  # numbers that it had not, those of what was never sent among them
    surplus: int


def unread(row: Column, found: Found) -> int:
    """Return how many bytes of the peer the program had not read, at least: a FIN counts as one until it is read."""
    octets = int(row["unread"])
    return max(0, octets - 1) if found.fin or octets == 1 else octets


def sent_fin(found: Found, sent: Sent) -> bool:
    """Return whether this end is known to have sent a FIN."""
    return found.begun is not None and sent.surplus == found.begun.connects + 1


def used_no_fin(found: Found, sent: Sent) -> bool:
    """Return whether this end is known to have sent no FIN."""
    return found.begun is not None and sent.surplus == found.begun.connects


def had_both_closed(row: Column, found: Found, sent: Sent) -> bool:
    """Return whether the peer is known to have sent a FIN, and this end, too."""
    return _fin(row, found) is not None and sent_fin(found, sent)


def had_closed(row: Column, found: Found, sent: Sent) -> bool:
    """Return whether both ends had closed in the ordinary way: what came then has ended nothing (TIME_WAIT)."""
    return had_both_closed(row, found, sent) and not sent.waiting


def fill_in_close(row: Column, found: Found, sent: Sent, destroyed: Span, idle: float) -> bool:
    """Fill in how a connection was closed, a row of DEATH that neither a reset nor a silence has ended.

    Return whether this host ended it with a reset, or the peer by a FIN after `idle` seconds without data (0: never).
    """
    if had_closed(row, found, sent):
        return idle > 0 and _fill_in_fin(row, found, sent, destroyed) >= idle
    if row["unread"]:
        _fill_in_abort(row, found, sent, error=0)
        return True
    if row["error"] == 0 and _was_destroyed(row, found, sent):
        _fill_in_abort(row, found, sent, error=errno.ECONNABORTED)
        return True
    return False


def _fin(row: Column, found: Found) -> Packet | None:
    """Return the FIN of the peer, if it has the number that this end expected."""
    fin = found.fin
    return fin if fin and fin.behind == expected(row, found.begun) else None


def _was_destroyed(row: Column, found: Found, sent: Sent) -> bool:
    """Return whether a connection that was established has ended without a FIN of this end, and not by a timeout.

    Of what waits for the peer TCP_USER_TIMEOUT may have ended it, without a packet that was sent again.
    """
    exchanged = row["bytes_acked"] != 0 or row["bytes_received"] != 0
    return bool(exchanged) and not sent.waiting and used_no_fin(found, sent)


def _fill_in_abort(row: Column, found: Found, sent: Sent, error: int) -> None:
    """Fill in that this end was closed with a reset; `error` is what its program is told then."""
    row["error"], row["reset"] = error, Reset.NONE.value
    row["shutdown"], row["sent_reset"], row["fin_first"] = WHOLE, True, found.fin is not None
    if found.fin:
        row["state"] = TcpState.CLOSE_WAIT.value
    else:
        row["state"] = (TcpState.FIN_WAIT2 if sent_fin(found, sent) else TcpState.ESTABLISHED).value


def _fill_in_fin(row: Column, found: Found, sent: Sent, destroyed: Span) -> float:
    """Fill in a FIN of the peer that came before this end had sent its own; return the seconds without data before.

    Where that is not known, because the peer connected to this host, they are none.
    """
    begun, fin = found.begun, found.fin
    if not begun or not begun.connects or not fin:
        return 0.0
    ours = (begun.acknowledged + int(row["bytes_acked"]) - sent.surplus) % NUMBERS  # the number of our FIN
    if (fin.acknowledged - ours) % NUMBERS in range(1, NUMBERS // 2):
        return 0.0
    gap = max(destroyed.latest - fin.at, 0.0)
    row["error"], row["reset"] = 0, Reset.NONE.value
    row["fin_first"], row["since_fin"], row["state"] = True, gap, LAST_ACK
    row["silence"] = max(min(float(row["since_sent"]), float(row["since_received"])) - gap, 0.0)
    return float(row["silence"])
