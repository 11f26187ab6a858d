"""The evidence of one ended connection, in plain lines: what was seen, and nothing that is concluded from it."""

from __future__ import annotations

import errno
import ipaddress
import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from keepaliveD.model.causes import IDLE_AFTER
from keepaliveD.model.deaths import UNKEPT, Reset
from keepaliveD.model.duration import span
from keepaliveD.model.sockets import Column
from keepaliveD.model.text import decoded, quoted
from keepaliveD.policy.autopsy.facts import (
    ACK,
    ANSWERED_LATER,
    HALF_CLOSED,
    SENDING,
    WHOLE,
    answered_by_fin,
    distance,
    is_ipv6,
)

FLAGS = {0x01: "FIN", 0x02: "SYN", 0x04: "RST", 0x08: "PSH", 0x10: "ACK", 0x20: "URG"}
CLOSE_WAIT = 8
UNREACHABLE = 3  # of ICMP types
CODES = {0: "network unreachable", 1: "host unreachable", 3: "port unreachable", 9: "prohibited", 10: "prohibited"}
CODES |= {13: "administratively prohibited"}
UNSEEN = {  # by a column that is then unknown
    "reset_flags": "the packet of a reset",
    "dropped_by_firewall": "which packets this host dropped",
    "closer": "who closed the connection",
    "user_timeout": "TCP_USER_TIMEOUT",
    "peer_probes": "keepalive probes of the peer",
}
SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE"}
SIGNALS |= {9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 31: "SIGSYS"}


def evidence(ended: Column, unknown: Collection[str] = ()) -> tuple[str, ...]:
    """Return a line for each thing that was seen of this connection, an array of one DEATH, and one for the rest.

    `unknown` are the columns that the engine cannot fill.
    """
    row = {name: ended[name][0] for name in ended.dtype.names or ()}
    unknown = {*unknown, *UNKEPT} if row["unkept"] else unknown
    unseen = [what for column, what in UNSEEN.items() if column in unknown]
    return *_lines(row, ended), *([f"the engine does not see {', '.join(unseen)}"] if unseen else ())


def signal_name(number: int) -> str:
    """Return the name of a signal, as kill(1) has it."""
    return SIGNALS.get(number, f"signal {number}")


def closer_name(raw: bytes) -> str:
    """Return what the process that ended a connection calls itself; it is quoted where it is more than a word."""
    name = name_of(raw)
    return quoted(name) if name else ""


def name_of(raw: bytes) -> str:
    """Return the printable name of a process, as BPF reads it."""
    return decoded(raw.split(b"\0")[0])


def _lines(row: dict[str, Any], ended: Column) -> Iterator[str]:
    yield from _silence(row)
    if row["reset"] != Reset.NONE:
        yield from _reset(row, ended)
    yield from _unanswered(row)
    yield from _peer(row)
    if answered_by_fin(ended)[0]:
        yield "the peer closed after this end"
        row = {**row, "unread": row["unread"] - min(row["unread"], 1)}  # its FIN has a number, too
    yield from _this_host(row)
    if row["error"] and (row["inode"] or row["state"] not in HALF_CLOSED):  # a program that has closed gets no error
        yield f"its program is told {errno.errorcode.get(int(row['error']), int(row['error']))}"


def _silence(row: dict[str, Any]) -> Iterator[str]:
    silence = float(row["silence"])
    if silence >= IDLE_AFTER:
        yield f"quiet for {span(silence)} before"
    elif not math.isnan(silence):
        yield f"busy: quiet for only {span(silence)} before"


def _reset(row: dict[str, Any], ended: Column) -> Iterator[str]:
    if row["reset"] == Reset.UNSEEN:
        yield "a reset was accepted; its packet was not seen"
        return
    flags = "+".join(name for bit, name in FLAGS.items() if row["reset_flags"] & bit)
    accepted = "a reset came, and whether it was accepted was not seen"
    if row["reset"] == Reset.RECEIVED:
        accepted = "a reset was accepted"
    yield f"{accepted}: {flags}; {_whence(row, ended)}"
    yield _form(row, ended)
    if row["reset_local"]:
        yield "the reset came over the loopback interface"
    if row["afterwards"]:
        yield f"packets of the peer that came after the reset: {row['afterwards']}"


def _whence(row: dict[str, Any], ended: Column) -> str:
    """Return how far away reset and peer are."""
    resets, peers = int(distance(ended["reset_ttl"])[0]), int(distance(ended["peer_ttl"])[0])
    if resets < 0:
        return "its hop limit was not seen"
    where = f"hop limit {row['reset_ttl']}, so it was sent {_hops(resets)}"
    if peers < 0:
        return f"{where}; the peer's hop limit is not known"
    return f"{where}; the peer's packets have {row['peer_ttl']}, so the peer is {_hops(peers)}"


def _hops(routers: int) -> str:
    return f"at hop {routers + 1}"


def _form(row: dict[str, Any], ended: Column) -> str:
    """Return the form of the reset: live sockets, stacks without the connection and firewalls send others."""
    label = f", flow label {row['reset_label']}, the peer's {row['peer_label']}" if is_ipv6(ended)[0] else ""
    numbers = f"identification {row['reset_id']}, window {row['reset_window']}{label}"
    stamps = "timestamps" if row["reset_timestamps"] else "no timestamps"
    ours = " although the connection has them" if row["timestamps"] and not row["reset_timestamps"] else ""
    if not row["reset_flags"] & ACK:
        return f"the reset has the form of a stack that does not know the connection: no ACK flag, {numbers}, {stamps}"
    if ours:
        return f"the reset has the form of neither a live socket nor one that is gone: {numbers}, {stamps}{ours}"
    return f"the reset has the form of a live socket: ACK flag, {numbers}, {stamps}"


def _unanswered(row: dict[str, Any]) -> Iterator[str]:
    """Yield what this host sent in vain."""
    if row["unacked"]:
        again = f" after {row['retransmits']} retransmissions" if row["retransmits"] else ""
        yield f"bytes that the peer did not acknowledge{again}: {row['unacked']}"
    if row["unsent"]:
        window = "the peer's window was closed" if not row["window"] else "although the peer's window was open"
        yield f"bytes that were never sent, {window}: {row['unsent']}"
    if row["probes"]:
        heard, exchanged = float(row["since_acked"]), float(np.fmin(row["since_sent"], row["since_received"]))
        before = "; earlier ones were answered" if exchanged - heard > ANSWERED_LATER else ""
        yield f"probes that the peer did not answer: {row['probes']}{before}"
    if row["user_timeout"]:
        lost = float(row["since_lost"])
        since = "" if math.isnan(lost) else f"; the first retransmission was {span(lost)} before the end"
        yield f"its program has set TCP_USER_TIMEOUT to {span(row['user_timeout'] / 1000)}{since}"


def _peer(row: dict[str, Any]) -> Iterator[str]:
    """Yield what the peer and the network said."""
    if row["fin_first"]:
        fin = float(row["since_fin"])
        yield "the peer closed first" + ("" if math.isnan(fin) else f", {span(fin)} before the end")
    if not math.isnan(row["since_syn"]):
        ago = span(float(row["since_syn"]))
        yield f"a SYN came in the middle of the connection, with hop limit {row['syn_ttl']}, {ago} before the end"
    if row["peer_probes"]:
        last = float(row["since_peer_probe"])
        ago = "" if math.isnan(last) else f", the last one {span(last)} before the end"
        yield f"keepalive probes of the peer: {row['peer_probes']}{ago}"
    if not row["bytes_received"] and row["bytes_acked"] <= 1:
        yield "no byte was exchanged"
    if row["icmp_type"] or row["soft_error"]:
        yield _icmp(row)


def _icmp(row: dict[str, Any]) -> str:
    if not row["icmp_type"]:
        said = int(row["soft_error"])
        return f"a router, or this host's own routes, said {errno.errorcode.get(said, said)}"
    address = ipaddress.IPv6Address(int(row["router_high"]) << 64 | int(row["router_low"]))
    router = f" from {address.ipv4_mapped or address}" if int(address) else ""
    meaning = CODES.get(int(row["icmp_code"]), "") if row["icmp_type"] == UNREACHABLE else ""
    return f"ICMP type {row['icmp_type']} code {row['icmp_code']}{router}" + (f" ({meaning})" if meaning else "")


def _this_host(row: dict[str, Any]) -> Iterator[str]:
    """Yield what this host did."""
    if row["dropped_by_firewall"]:
        dropped = row["dropped_by_firewall"]
        yield f"packets of this connection that a firewall or filter of this host dropped: {dropped}"
    if row["dropped_by_md5"]:
        yield f"packets that lacked the TCP-MD5 signature, or had one unexpectedly: {row['dropped_by_md5']}"
    if row["unrouted"]:
        yield f"packets that found no route on this host since the peer was heard: {row['unrouted']}"
    if row["discarded"]:
        yield f"packets that this host dropped for another reason since the peer was heard: {row['discarded']}"
    if row["no_carrier"]:
        yield "the link over which this host sends to the peer has no carrier"
    yield from _program(row)
    if row["error"] == errno.ECONNABORTED:
        yield "this host sent a reset, and no FIN"
    if row["unread"]:
        yield f"bytes that the program had not read: {row['unread']}"
    if row["state"] in HALF_CLOSED:
        yield f"this end had closed {_what_it_had_closed(row)}before"
    elif row["state"] == CLOSE_WAIT and not row["fin_first"]:
        yield "the peer had closed before"


def _what_it_had_closed(row: dict[str, Any]) -> str:
    """Return what this end had closed, "" for both directions; of a program that was killed one is known."""
    if row["shutdown"] != SENDING:
        return ""
    return "at least one direction " if row["signal"] else "one direction "


def _program(row: dict[str, Any]) -> Iterator[str]:
    """Yield who ended the connection on this host, and how."""
    if name := closer_name(bytes(row["closer"])):
        thread = ", a thread of the kernel" if row["by_kernel"] else ""
        yield f"ended on this host by {name}[{row['closer_pid']}]{thread}"
    elif row["by_kernel"]:
        yield "closed last by keepaliveD, which had it open beside the program"
    yield from _how_it_closed(row)


def _at_once(row: dict[str, Any]) -> bool:
    """Return whether a connection that its program closed ended with that, and not by a FIN of the peer's later."""
    return bool(row["sent_reset"]) or row["state"] not in HALF_CLOSED


def _how_it_closed(row: dict[str, Any]) -> Iterator[str]:
    """Yield what became of the program, or that it closed the connection with a reset."""
    if row["out_of_memory"]:
        yield "the kernel killed the program for lack of memory"
    elif row["signal"]:
        yield f"the program was ended by {signal_name(int(row['signal']))}"
    elif row["exiting"]:
        yield "the program ended without closing the connection"
    elif row["shutdown"] == WHOLE and not row["error"] and not row["fin_first"] and _at_once(row):
        yield "the program closed it at once, with a reset"
