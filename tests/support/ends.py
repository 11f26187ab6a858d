"""Ends of connections as rows of DEATH, with the numbers that were measured when such ends were made on purpose."""

from __future__ import annotations

import dataclasses
import errno
import ipaddress
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keepaliveD.model.autopsy import Alike
from keepaliveD.model.causes import Cause
from keepaliveD.model.connections import Owner
from keepaliveD.model.deaths import DEATH, Deaths, Reset
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import Path
from keepaliveD.model.sockets import Column
from keepaliveD.policy.autopsy.autopsy import Autopsy, AutopsyRules

NOBODY = Owner()
NAN_COLUMNS = [name for name in DEATH.names or () if DEATH[name].kind == "f"]
Facts = Mapping[str, Any]

CLOSE_WAIT, FIN_WAIT1 = 8, 4
RST, RST_ACK = 0x04, 0x14
NOTHING: Facts = {
    "cookie": 1,
    "netns": 4026531840,
    "local_port": 40000,
    "remote_port": 5432,
    "state": 1,
    "bytes_received": 100,
    "bytes_acked": 100,
    "window": 64000,
    "timestamps": 1,
    "peer_ttl": 61,
    "ended_at": 1000.0,
}


def v4(address: str) -> tuple[int, int]:
    """Both halves of an IPv4 address, v4-mapped."""
    return 0, 0xFFFF << 32 | int(ipaddress.IPv4Address(address))


def v6(address: str) -> tuple[int, int]:
    """Both halves of an IPv6 address."""
    number = int(ipaddress.IPv6Address(address))
    return number >> 64, number & (1 << 64) - 1


def ends(many: Iterable[Facts]) -> Column:
    """Rows with these facts; the rest is of a connection that had nothing to say, over IPv4."""
    many = list(many)
    rows = np.zeros(len(many), DEATH)
    for name in NAN_COLUMNS:
        rows[name] = math.nan
    rows["local_high"], rows["local_low"] = v4("10.71.1.1")
    rows["remote_high"], rows["remote_low"] = v4("10.71.3.2")
    for row, facts in zip(rows, many, strict=True):
        for name, value in {**NOTHING, **facts}.items():
            row[name] = value
    return rows


def end(**facts: Any) -> Column:
    """One row."""
    return ends([facts])


def reset(**facts: Any) -> Facts:
    """A reset of a stack that does not know the connection, from the peer's distance."""
    seen: Facts = {"error": errno.ECONNRESET, "reset": Reset.RECEIVED, "reset_flags": RST, "reset_ttl": 61}
    return {**seen, **facts}


def live(**facts: Any) -> Facts:
    """A reset of a socket of the peer's that knows the connection."""
    form = {"reset_flags": RST_ACK, "reset_id": 57037, "reset_window": 64, "reset_timestamps": 1}
    return reset(**{**form, **facts})


def timed_out(**facts: Any) -> Facts:
    """This host gave the connection up."""
    return {"error": errno.ETIMEDOUT, **facts}


GUESS = Path("default", 240.0, Origin(Source.GUESS))


def alike(facts: Facts, count: int = 1, seconds: float = 0.0, owner: Owner = NOBODY) -> Alike:
    """What is reported of so many connections that ended so."""
    autopsy = Autopsy(AutopsyRules(frozenset(Cause), (GUESS,), ()))
    (report,) = autopsy.observe(Deaths(ends([facts])), 1001.0)
    return Alike(count, (dataclasses.replace(report.examples[0], owner=owner),), seconds)


FORGOTTEN_BY_REJECT = reset(reset_ttl=63, silence=3.5, unacked=5)
V6 = {"remote_high": v6("fd99::2")[0], "remote_low": v6("fd99::2")[1], "peer_label": 81344}

# What ended it, how confident one may be, and what was measured: facts of the ends that were made on purpose.
MEASURED: Mapping[str, tuple[Cause, float, Facts]] = {
    "firewall forgot, rejects data": (Cause.MIDDLEBOX_IDLE, 0.95, FORGOTTEN_BY_REJECT),
    "firewall forgot, rejects a probe": (
        Cause.MIDDLEBOX_IDLE,
        0.95,
        reset(reset_ttl=63, silence=4.2, probes=1),
    ),
    "firewall forgot after the peer's FIN": (
        Cause.MIDDLEBOX_IDLE,
        0.95,
        reset(reset_ttl=63, silence=3.5, unacked=5, error=errno.EPIPE, state=CLOSE_WAIT, since_fin=4.0, fin_first=1),
    ),
    "firewall forgot, drops data": (
        Cause.SILENT_AFTER_IDLE,
        0.8,
        timed_out(retransmits=4, silence=3.7, unacked=5, since_lost=3.0),
    ),
    "firewall forgot, drops our FIN": (
        Cause.SILENT_AFTER_IDLE,
        0.8,
        timed_out(retransmits=3, silence=3.7, unacked=1, state=FIN_WAIT1, since_lost=3.0),
    ),
    "firewall forgot, drops probes": (
        Cause.SILENT_AFTER_IDLE,
        0.6,
        timed_out(probes=3, silence=4.0, since_sent=7.0, since_received=7.0, since_acked=7.0, sent_reset=1),
    ),
    "NAT forgot": (Cause.UNKNOWN_TO_PEER, 0.9, reset(silence=3.5, unacked=5)),
    "peer rebooted, data": (Cause.UNKNOWN_TO_PEER, 0.9, reset(silence=3.5, unacked=5)),
    "peer rebooted, probe": (Cause.UNKNOWN_TO_PEER, 0.9, reset(silence=4.2, probes=1)),
    "firewall on the peer's host rejects": (Cause.UNKNOWN_TO_PEER, 0.9, reset(silence=0.3, unacked=5)),
    "injected while busy": (Cause.MIDDLEBOX_BUSY, 0.95, reset(reset_ttl=63, silence=0.0, afterwards=1)),
    "injected with the peer's hop limit": (Cause.MIDDLEBOX_BUSY, 0.9, reset(silence=0.0, afterwards=2)),
    "injected with the peer's hop limit, quiet": (Cause.MIDDLEBOX_BUSY, 0.6, reset(silence=0.0)),
    "both ends reset": (Cause.MIDDLEBOX_BUSY, 0.95, reset(reset_ttl=63, silence=0.1)),
    "first hop, hop limit 255": (Cause.MIDDLEBOX_IDLE, 0.95, reset(reset_ttl=255, silence=3.5, unacked=5)),
    "last hop before the peer": (Cause.MIDDLEBOX_IDLE, 0.85, reset(reset_ttl=62, silence=3.5, unacked=5)),
    "proxy closes an idle connection": (Cause.PEER_CLOSED_IDLE, 0.9, {"fin_first": 1, "silence": 2.5}),
    "load balancer resets from a live socket": (Cause.PEER_ABORTED, 0.9, live(silence=2.6)),
    "peer exits": (Cause.PEER_CLOSED, 0.9, {"fin_first": 1, "silence": 0.0}),
    "peer aborts": (Cause.PEER_ABORTED, 0.9, live(silence=0.1)),
    "we write after the peer closed": (
        Cause.WROTE_AFTER_CLOSE,
        0.9,
        reset(error=errno.EPIPE, state=CLOSE_WAIT, since_fin=0.5, fin_first=1, silence=0.5, unacked=5),
    ),
    "we closed, data in flight": (
        Cause.PEER_ABORTED_AFTER_CLOSE,
        0.95,
        live(state=FIN_WAIT1, unacked=46336, silence=0.0),
    ),
    "router says host unreachable": (
        Cause.UNREACHABLE,
        0.95,
        {"error": errno.EHOSTUNREACH, "soft_error": errno.EHOSTUNREACH, "icmp_type": 3, "icmp_code": 1},
    ),
    "peer's keepalive gave up": (
        Cause.PEER_KEEPALIVE,
        0.85,
        live(peer_probes=6, since_peer_probe=1.0, peer_probe_gap=1.0, silence=1.0),
    ),
    "path died, our keepalive gave up": (
        Cause.PATH_DIED,
        0.8,
        timed_out(
            probes=3,
            silence=4.0,
            since_sent=10.0,
            since_received=10.0,
            since_acked=7.0,
            keepidle=4,
            keepintvl=1,
            sent_reset=1,
        ),
    ),
    "path died while busy": (Cause.PATH_DIED, 0.8, timed_out(unacked=28_928, silence=0.4, retransmits=5)),
    "TCP_USER_TIMEOUT": (
        Cause.USER_TIMEOUT,
        0.9,
        timed_out(unacked=5, silence=0.3, user_timeout=1500, since_lost=1.504, retransmits=3),
    ),
    "peer reads nothing": (
        Cause.PEER_NOT_READING,
        0.8,
        timed_out(window=0, unsent=583_512, since_acked=0.7, user_timeout=1500, silence=0.7),
    ),
    "ss -K": (Cause.LOCAL_KILL, 0.99, {"error": errno.ECONNABORTED, "closer": b"ss", "closer_pid": 77}),
    "program killed": (Cause.PROGRAM_KILLED, 0.99, {"signal": 9, "unread": 6, "exiting": 1, "shutdown": 3}),
    "program crashed": (Cause.PROGRAM_KILLED, 0.99, {"signal": 11, "exiting": 1, "state": FIN_WAIT1}),
    "program exits with unread data": (Cause.PROGRAM_ENDED, 0.95, {"exiting": 1, "unread": 6, "shutdown": 3}),
    "closed with unread data": (Cause.CLOSED_UNREAD, 0.9, {"unread": 6, "shutdown": 3}),
    "linger 0": (Cause.LOCAL_ABORT, 0.9, {"shutdown": 3}),
    "our firewall rejects what leaves": (
        Cause.LOCAL_FIREWALL,
        0.95,
        reset(reset_ttl=64, reset_local=1, dropped_by_firewall=1, dropped_leaving=1, unacked=5, silence=0.4),
    ),
    "our firewall drops what leaves": (
        Cause.LOCAL_FIREWALL,
        0.6,
        timed_out(dropped_by_firewall=4, unsent=1, retransmits=4),
    ),
    "our firewall rejects what arrives": (
        Cause.LOCAL_FIREWALL,
        0.6,
        timed_out(dropped_by_firewall=6, unacked=5, silence=0.4),
    ),
    "link of this host down": (Cause.LOCAL_NETWORK, 0.9, timed_out(unsent=1, probes=3, silence=0.4)),
    "TCP-MD5 at one end": (Cause.MD5_MISMATCH, 0.6, timed_out(dropped_by_md5=6, unacked=5, silence=0.4)),
    "client came back with the same port": (
        Cause.PEER_RESTARTED,
        0.85,
        reset(since_syn=0.00003, syn_ttl=61, silence=3.0),
    ),
    "backlog full": (
        Cause.LISTENER_OVERFLOW,
        0.7,
        reset(bytes_received=0, bytes_acked=1, silence=0.016, unacked=5),
    ),
    "IPv6, live socket": (
        Cause.PEER_ABORTED,
        0.9,
        {**V6, **live(reset_id=0, reset_window=0, reset_label=81344, silence=0.1)},
    ),
    "IPv6, no socket": (Cause.UNKNOWN_TO_PEER, 0.9, {**V6, **reset(reset_label=714529, silence=3.0, unacked=5)}),
    "IPv6, firewall": (Cause.MIDDLEBOX_IDLE, 0.95, {**V6, **reset(reset_ttl=63, silence=3.0, unacked=5)}),
    "IPv6, firewall at the peer's distance": (
        Cause.MIDDLEBOX_IDLE,
        0.85,
        {**V6, **reset(silence=3.0, unacked=5)},
    ),
}
