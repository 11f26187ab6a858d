"""Whether a reset ended a connection, and what it tells, where only the packets are seen and not what TCP does."""

from __future__ import annotations

import errno
import math
from typing import NamedTuple

from keepaliveD.model.deaths import Reset
from keepaliveD.model.sockets import Column, TcpState
from keepaliveD.platforms.linux.deaths.packets import Begun, Found, Packet


class Span(NamedTuple):
    """Between which instants something was."""

    earliest: float
    latest: float


AGES = ("since_sent", "since_received", "since_acked")
NUMBERS = 1 << 32  # of TCP: they begin again
MOSTLY = 0.2  # seconds within which it is seen that a socket was destroyed, unless the machine is busy
CLOCK = 0.01  # seconds by which the kernel's times may be wrong
CAME_BACK = (
    1.0  # seconds after a SYN in the middle of a connection, in which the peer answers our question with a reset
)


def fill_in_reset(row: Column, found: Found, destroyed: Span, unacked: int) -> bool:
    """Fill in the reset that ended a connection, a row of DEATH; return whether there was one.

    One at exactly the number that this end expected has ended it. Where that is not known, because the connection is
    older than we are, one may have ended it if nothing came after it. Times in the row are those when it was
    destroyed. `unacked` are the bytes that the peer has not acknowledged.
    """
    packet, is_sure = _that_ended_it(row, found, destroyed)
    if packet is None:
        return False
    row["unacked"] = unacked
    row["reset"] = (Reset.RECEIVED if is_sure else Reset.UNCHECKED).value
    row["error"] = errno.ECONNRESET
    row["state"] = TcpState.ESTABLISHED.value
    _fill_in_packet(row, packet)
    _fill_in_others(row, found, packet, is_sure=is_sure)
    _fill_in_times(row, packet, destroyed)
    return True


def _that_ended_it(row: Column, found: Found, destroyed: Span) -> tuple[Packet | None, bool]:
    """Return the reset that ended it, and whether that is sure."""
    begun = found.begun
    if begun:
        exact = [packet for packet in found.resets if _was_next(row, found, packet)]
        if exact:
            ignored = _went_on(row, exact[0], destroyed) or _had_given_up(row, exact[0], destroyed)
            return (None, False) if ignored else (exact[0], True)
        if begun.connects or found.resets[-1].at > begun.at + CAME_BACK:
            return None, False  # a forger did not know the number
    elif not row["bytes_acked"] and not row["bytes_received"]:
        return None, False  # it was never established
    last = found.resets[-1]
    may_be = found.fin is None and row["error"] != errno.ETIMEDOUT and not _went_on(row, last, destroyed)
    return (last, False) if may_be else (None, False)


def _was_next(row: Column, found: Found, packet: Packet) -> bool:
    """Return whether a reset had the number that was expected then: the FIN takes one, and may have come later."""
    fin, number = found.fin, expected(row, found.begun)
    return packet.number == number and not (fin and fin.behind == number and fin.at > packet.at)


def _went_on(row: Column, packet: Packet, destroyed: Span) -> bool:
    """Return whether the connection sent or received something after this packet: then this host had dropped it."""
    last = min(row["since_sent"], row["since_received"], row["since_acked"])
    return bool(destroyed.earliest - last > packet.at + CLOCK)


def expected(row: Column, begun: Begun | None) -> int:
    """Return the number that this end expected next: what it received counts the FIN, and not the SYN."""
    return (begun.number + 1 + int(row["bytes_received"])) % NUMBERS if begun else -1


def _had_given_up(row: Column, packet: Packet, destroyed: Span) -> bool:
    """Return whether the last retransmission may have been waited for in vain when this packet came."""
    if row["error"] != errno.ETIMEDOUT or not row["retransmits"]:
        return False
    last = max(destroyed.earliest, destroyed.latest - MOSTLY) - row["since_sent"]
    return bool(packet.at > last + row["timeout"] * 2.0 ** int(row["retransmits"]) - CLOCK)


def _fill_in_packet(row: Column, packet: Packet) -> None:
    row["reset_flags"], row["reset_ttl"], row["reset_id"] = packet.flags, packet.ttl, packet.id
    row["reset_window"], row["reset_label"] = packet.window, packet.label
    row["reset_timestamps"], row["reset_local"] = packet.timestamps, packet.local


def _fill_in_others(row: Column, found: Found, packet: Packet, *, is_sure: bool) -> None:
    """Fill in what other packets tell: the peer's hop limit, its FIN, a SYN in the middle of the connection."""
    begun, fin, syn = found.begun, found.fin, found.syn
    if begun and is_sure:
        row["peer_ttl"] = begun.ttl
        row["unacked"] += begun.connects and row["unacked"] > 0
    if begun and not is_sure:
        syn = begun  # a connection older than we are seemed to begin then
    if syn and syn.at <= packet.at:
        row["since_syn"], row["syn_ttl"] = packet.at - syn.at, syn.ttl
    if fin and fin.behind == expected(row, found.begun):
        row["fin_first"], row["since_fin"], row["state"] = True, packet.at - fin.at, TcpState.CLOSE_WAIT.value
        row["error"] = errno.EPIPE


def _fill_in_times(row: Column, packet: Packet, destroyed: Span) -> None:
    """Make the reset the instant from which times count, and tell how long it was quiet before.

    A busy machine shows late what was destroyed. All that was exchanged came before the reset, which limits by how
    much; after data of ours the reset came at once, and else it is not known how long it was quiet.
    """
    gap, last = max(destroyed.latest - packet.at, 0), min(float(row[name]) for name in AGES)
    is_late, longest = gap > last + CLOCK, min(row["since_received"], row["since_acked"])
    gap = min(gap, last)
    for name in AGES:
        row[name] -= gap
    retransmitting = row["timeout"] * (2.0 ** int(row["retransmits"]) - 1)
    unanswered = row["since_sent"] + retransmitting if row["unacked"] else 0
    silence = max(min(row["since_received"], row["since_acked"]) - unanswered, 0)
    row["silence"] = math.nan if is_late and longest > MOSTLY and not row["unacked"] else silence
    row["ended_at"] = packet.at
