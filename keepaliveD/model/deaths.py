"""Ended connections as columns: what the kernel knew of each when it ended, and what it became.

Durations are seconds before the end, NaN where unknown. Addresses are as in model.sockets.
"""

from __future__ import annotations

import enum

import numpy as np

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.sockets import Column

DEATH = np.dtype(
    [
        ("cookie", "u8"),
        ("cgroup", "u8"),  # inode of its cgroup v2 directory, 0 unknown
        ("local_high", "u8"),
        ("local_low", "u8"),
        ("remote_high", "u8"),
        ("remote_low", "u8"),
        ("router_high", "u8"),  # who sent the ICMP error, 0 unknown ...
        ("router_low", "u8"),
        ("ended_at", "f8"),  # the instant, by the daemon's clock
        ("bytes_received", "u8"),
        ("bytes_acked", "u8"),
        ("netns", "u4"),  # inode of its network namespace
        ("inode", "u4"),  # of the socket, as in /proc/PID/fd; 0 where no program held it any more
        ("uid", "u4"),
        ("keepidle", "u4"),  # seconds; its own or its namespace's
        ("keepintvl", "u4"),
        ("user_timeout", "u4"),  # milliseconds, 0 none
        ("unacked", "u4"),  # bytes sent that the peer did not acknowledge
        ("unsent", "u4"),  # bytes that never left
        ("unread", "u4"),  # bytes that the program did not read
        ("window", "u4"),  # bytes that the peer would have taken
        ("closer_pid", "u4"),  # who ended it on this host, 0 nobody or unknown
        ("reset_label", "u4"),  # IPv6 flow label of the reset ...
        ("peer_label", "u4"),  # ... and of the last packet of the peer, 0 unknown
        ("since_sent", "f4"),  # since data was sent for the last time, retransmissions counted
        ("since_received", "f4"),
        ("since_acked", "f4"),
        ("since_lost", "f4"),  # since the first retransmission, NaN without
        ("timeout", "f4"),  # the retransmission timeout
        ("since_fin", "f4"),  # since the peer's FIN, NaN without
        ("since_peer_probe", "f4"),  # since the last keepalive probe of the peer, NaN without
        ("peer_probe_gap", "f4"),  # between the last two of these, NaN without two
        ("since_syn", "f4"),  # since a SYN came in the middle of the connection, NaN without
        ("silence", "f4"),  # between the last packet of either direction and the first that was lost, or the reset
        ("error", "u2"),  # what the program was told (errno), 0 nothing
        ("soft_error", "u2"),  # what an ICMP error left (errno)
        ("reset_id", "u2"),  # of the reset: IPv4 identification ...
        ("reset_window", "u2"),  # ... and window
        ("dropped_by_firewall", "u2"),  # packets of this connection that this host dropped
        ("dropped_leaving", "u2"),  # of these, those that were to leave it
        ("dropped_by_md5", "u2"),
        ("unrouted", "u2"),  # packets that found no route here since the peer was heard, IPv4
        ("discarded", "u2"),  # packets that this host dropped since then for another reason, such as no carrier
        ("afterwards", "u2"),  # packets that came from the peer within a second after the end
        ("local_port", "u2"),
        ("remote_port", "u2"),
        ("state", "u1"),  # TcpState before the end
        ("shutdown", "u1"),  # of our side: 1 receiving, 2 sending, 3 both
        ("retransmits", "u1"),
        ("probes", "u1"),  # keepalive or zero-window probes that the peer did not answer
        ("keepcnt", "u1"),
        ("keepalive", "u1"),  # Switch
        ("peer_probes", "u1"),  # keepalive probes of the peer that were seen
        ("reset", "u1"),  # Reset
        ("reset_flags", "u1"),  # TCP flags of the reset
        ("reset_ttl", "u1"),  # its hop limit ...
        ("peer_ttl", "u1"),  # ... and that of the peer's packets, 0 unknown
        ("syn_ttl", "u1"),  # hop limit of the SYN that came in the middle of the connection
        ("reset_timestamps", "u1"),  # 1 if it had TCP timestamps
        ("timestamps", "u1"),  # 1 if the connection has them
        ("reset_local", "u1"),  # 1 if it came over the loopback interface
        ("sent_reset", "u1"),  # 1 if this host sent a reset
        ("fin_first", "u1"),  # 1 if the peer closed before this host did
        ("signal", "u1"),  # that ended the program which closed it, 0 none
        ("exiting", "u1"),  # 1 if it was closed because its program ended
        ("out_of_memory", "u1"),  # 1 if the kernel ended the program for memory
        ("by_kernel", "u1"),  # 1 if a thread of the kernel or a worker of ours closed it, and its program may be gone
        ("icmp_type", "u1"),  # of an ICMP error about this connection ...
        ("icmp_code", "u1"),
        ("no_carrier", "u1"),  # 1 if the link over which it sent last had none when it ended
        ("unkept", "u1"),  # 1 if UNKEPT is not known of it: any user may have made its namespace
        ("closer", "S16"),  # name of who ended it on this host, as it calls itself
    ]
)


UNKEPT = frozenset(  # columns of packets that this host dropped
    {"dropped_by_firewall", "dropped_leaving", "dropped_by_md5", "afterwards", "unrouted", "discarded"}
)


class Reset(enum.IntEnum):
    """Whether a reset ended the connection."""

    NONE = 0
    RECEIVED = 1  # and accepted; its packet was seen
    UNSEEN = 2  # one was accepted, but its packet was not seen
    UNCHECKED = 3  # its packet was seen, but not whether it was accepted


@dataclass(frozen=True, slots=True)
class Deaths:
    """Connections that ended otherwise than by an ordinary close, since this was asked for the last time.

    `ended`: an array of DEATH. `ordinary`: how many ended in the ordinary way. `lost`: how many ended otherwise, and
    nothing else is known of them. `seen_by`: the engine. `unknown`: columns of DEATH that it cannot fill.
    """

    ended: Column
    ordinary: int = 0
    lost: int = 0
    seen_by: str = "bpf"
    unknown: frozenset[str] = frozenset()
