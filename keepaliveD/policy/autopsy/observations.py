"""What would tell two causes apart that one host cannot tell apart, by both of them."""

from __future__ import annotations

from collections.abc import Mapping

from keepaliveD.model.causes import Cause
from keepaliveD.policy.autopsy.deaths import (
    BEHIND_A_CLOSE,
    BEHIND_A_KILL,
    BEHIND_A_LATE_RESET,
    BEHIND_A_TIMEOUT,
    BEHIND_AN_ABORT,
    BY_A_MIDDLEBOX,
    DEAF,
    HALF_CLOSED_BY_PEER,
    not_ruled_out,
)

OF_RESETS = (
    *BY_A_MIDDLEBOX,
    Cause.LOCAL_FIREWALL,
    Cause.LISTENER_OVERFLOW,
    Cause.PEER_ABORTED,
    Cause.PEER_ABORTED_AFTER_CLOSE,
    Cause.PEER_KEEPALIVE,
    Cause.PEER_RESTARTED,
    Cause.UNKNOWN_TO_PEER,
    Cause.WROTE_AFTER_CLOSE,
)
OF_TIMEOUTS = (
    Cause.KEEPALIVE_GAVE_UP,
    Cause.PATH_DIED,
    Cause.PEER_NOT_READING,
    Cause.RETRANSMISSIONS_GAVE_UP,
    Cause.SILENT_AFTER_IDLE,
    Cause.UNREACHABLE,
    Cause.USER_TIMEOUT,
)
WINDOW = "a new connection to the same port at once: if it hangs, the path or the peer is down"
REPEATS = "the same idle time again and again at the end of other connections"
AT_THE_PEER = "a tcp-keepalived at the peer sees whether its socket sent the reset"
THE_SYN = "a new connection from the same port of the peer within seconds; there is none if somebody else sent the SYN"
BPF_SEES = "the bpf engine, which sees what became of the reset, and who closed the connection"
BPF_COUNTS = "the bpf engine, which sees packets that this host drops, and what programs have set"
OWN_RULES = (
    "the rules of this host that drop or reject these packets, which the bpf engine counts; a few that somebody forged "
    "are dropped as well"
)
OWN_ROUTES = "this host's own routes (ip route get) and links at that time"
SIGNATURES = "a packet capture: whether all packets of the peer carry a TCP-MD5 signature, or one that was forged"
WHO_FORGES = "programs of this host that forge resets, as tcpkill and killcx do"
PEERS_RULES = "the rules of the peer's own firewall, and its counters of rejects"
HALF = "the peer's program: whether it had closed both directions, or one and then waited for the answer (shutdown(2))"
OWN_HALF = "the program's own log: whether it had closed both directions, or one and then waited for the answer"
KEEPALIVE = "the peer's own log: its program was told ETIMEDOUT, if its keepalive gave up"
FATE = "what became of the program that held the socket (systemctl status, coredumpctl): it left closing to the kernel"
OBSERVATIONS: Mapping[tuple[Cause, Cause], str] = {
    **{(Cause.CLOSED_UNREAD, other): BPF_SEES for other in not_ruled_out(BEHIND_A_CLOSE, BEHIND_A_CLOSE)},
    **{(Cause.LOCAL_KILL, other): BPF_SEES for other in not_ruled_out(BEHIND_A_KILL, BEHIND_A_KILL)},
    (Cause.LOCAL_FIREWALL, Cause.LOCAL_KILL): WHO_FORGES,
    (Cause.LOCAL_FIREWALL, Cause.UNKNOWN_TO_PEER): "the log of a proxy on this host, if connections are led to one",
    **{
        (each, other): FATE
        for each in (Cause.CLOSED_UNREAD, Cause.LOCAL_ABORT)
        for other in (Cause.PROGRAM_KILLED, Cause.PROGRAM_ENDED)
    },
    (Cause.CLOSED_UNREAD, Cause.LOCAL_ABORT): "whether the program sets SO_LINGER to 0, which resets all the same",
    (Cause.LOCAL_ABORT, Cause.CLOSED_UNREAD): "the program's own log: whether it had read all that had come",
    (Cause.UNKNOWN_TO_PEER, Cause.NAT_FORGOT): "other connections to this peer that are alive rule out a restart; "
    "several that end after the same idle time are a NAT's; at the peer, a reset to a port that it never saw",
    (Cause.UNKNOWN_TO_PEER, Cause.PEER_RESTARTED): "the peer's uptime; no connection to it is older. Or which host had "
    "its address at that time: another one does not know the connection either",
    (Cause.UNKNOWN_TO_PEER, Cause.PEER_FIREWALL): PEERS_RULES,
    (Cause.UNKNOWN_TO_PEER, Cause.MIDDLEBOX_IDLE): AT_THE_PEER,
    (Cause.UNKNOWN_TO_PEER, Cause.MIDDLEBOX_BUSY): AT_THE_PEER,
    (Cause.UNKNOWN_TO_PEER, Cause.LISTENER_OVERFLOW): "ListenOverflows at the peer (nstat); whether it happens again",
    (Cause.UNKNOWN_TO_PEER, Cause.PEER_GAVE_UP): "the peer's own log: its program was told ETIMEDOUT, also because the "
    "program here had not read for long",
    (Cause.UNKNOWN_TO_PEER, Cause.PEER_ABORTED): "the peer's own log: its program ended just then; the reset that it "
    "sent itself was lost, or another overtook it",
    (Cause.PEER_RESTARTED, Cause.UNKNOWN_TO_PEER): THE_SYN,
    (Cause.PEER_RESTARTED, Cause.NAT_FORGOT): THE_SYN,
    (Cause.PEER_RESTARTED, Cause.PEER_FIREWALL): THE_SYN,
    (Cause.PEER_RESTARTED, Cause.MIDDLEBOX_IDLE): THE_SYN,
    (Cause.PEER_RESTARTED, Cause.MIDDLEBOX_BUSY): THE_SYN,
    (Cause.MIDDLEBOX_IDLE, Cause.MIDDLEBOX_BUSY): "how long the connection was quiet before",
    (Cause.MIDDLEBOX_IDLE, Cause.UNKNOWN_TO_PEER): "the peer's socket is still open, if a middlebox sent the reset",
    (Cause.MIDDLEBOX_BUSY, Cause.UNKNOWN_TO_PEER): "the peer's socket is still open, if a middlebox sent the reset",
    (Cause.MIDDLEBOX_IDLE, Cause.PEER_FIREWALL): PEERS_RULES,
    (Cause.MIDDLEBOX_BUSY, Cause.PEER_FIREWALL): PEERS_RULES,
    (Cause.MIDDLEBOX_BUSY, Cause.PEER_RESTARTED): "the peer's uptime; no connection to it is older",
    (Cause.MIDDLEBOX_BUSY, Cause.NAT_FORGOT): "at the peer, a reset to a port that it never saw",
    (Cause.MIDDLEBOX_BUSY, Cause.PEER_GAVE_UP): "the peer's own log: its program was told ETIMEDOUT",
    (Cause.MIDDLEBOX_IDLE, Cause.PEER_ABORTED): AT_THE_PEER,
    (Cause.MIDDLEBOX_BUSY, Cause.PEER_ABORTED): AT_THE_PEER,
    (Cause.PEER_ABORTED, Cause.MIDDLEBOX_IDLE): AT_THE_PEER,
    (Cause.PEER_ABORTED, Cause.MIDDLEBOX_BUSY): AT_THE_PEER,
    (Cause.PEER_ABORTED, Cause.PEER_GAVE_UP): "the peer's own log: its program was told ETIMEDOUT",
    (Cause.PEER_KEEPALIVE, Cause.PEER_ABORTED): KEEPALIVE,
    (Cause.PEER_KEEPALIVE, Cause.PEER_GAVE_UP): "a packet capture at the peer: whether it sent data or only probes",
    (Cause.SILENT_AFTER_IDLE, Cause.PATH_DIED): "a new connection to the same port at once: if it works, the path "
    f"forgot the old one; if it hangs, the path or the peer is down. Or {REPEATS}",
    (Cause.USER_TIMEOUT, Cause.SILENT_AFTER_IDLE): "a new connection to the same port at once: if it works, the path "
    f"forgot the old one. Or {REPEATS}",
    (Cause.USER_TIMEOUT, Cause.PATH_DIED): WINDOW,
    (Cause.LOCAL_NETWORK, Cause.LOCAL_FIREWALL): OWN_RULES,
    (Cause.LOCAL_NETWORK, Cause.SILENT_AFTER_IDLE): OWN_ROUTES,
    (Cause.LOCAL_NETWORK, Cause.PATH_DIED): OWN_ROUTES,
    (Cause.LOCAL_FIREWALL, Cause.SILENT_AFTER_IDLE): OWN_RULES,
    (Cause.LOCAL_FIREWALL, Cause.PATH_DIED): OWN_RULES,
    (Cause.MD5_MISMATCH, Cause.SILENT_AFTER_IDLE): SIGNATURES,
    (Cause.MD5_MISMATCH, Cause.PATH_DIED): SIGNATURES,
    (Cause.RETRANSMISSIONS_GAVE_UP, Cause.PATH_DIED): "a new connection to the same port at once",
    (Cause.RETRANSMISSIONS_GAVE_UP, Cause.SILENT_AFTER_IDLE): "how long the connection was quiet before",
    (Cause.KEEPALIVE_GAVE_UP, Cause.PATH_DIED): "a new connection to the same port at once",
    (Cause.KEEPALIVE_GAVE_UP, Cause.SILENT_AFTER_IDLE): "how long the connection was quiet before",
    (Cause.PEER_CLOSED_IDLE, Cause.PROXY_CLOSED): f"{REPEATS}; the log of the service, which did not close",
    (Cause.PEER_CLOSED_IDLE, Cause.LOCAL_CLOSE): "the program's own log: whether it had closed one direction just "
    "before (shutdown(2)), which the peer then answered",
    (Cause.LISTENER_OVERFLOW, Cause.UNKNOWN_TO_PEER): "ListenOverflows at the peer (nstat); whether it happens again",
    (Cause.LISTENER_OVERFLOW, Cause.PEER_ABORTED): "ListenOverflows at the peer (nstat); a load balancer without a "
    "server behind it does the same",
    (Cause.LISTENER_OVERFLOW, Cause.MIDDLEBOX_BUSY): AT_THE_PEER,
    (Cause.LISTENER_OVERFLOW, Cause.PEER_FIREWALL): PEERS_RULES,
    (Cause.PATH_DIED, Cause.LISTENER_OVERFLOW): "ListenOverflows at the peer (nstat); whether it happens again",
    **{(Cause.WROTE_AFTER_CLOSE, each): HALF for each in HALF_CLOSED_BY_PEER},
    **{
        (killed, each): HALF
        for killed in (Cause.PROGRAM_KILLED, Cause.OUT_OF_MEMORY)
        for each in (Cause.PEER_CLOSED, Cause.PEER_CLOSED_IDLE, Cause.PROXY_CLOSED)
    },
    **{(killed, Cause.LOCAL_CLOSE): OWN_HALF for killed in (Cause.PROGRAM_KILLED, Cause.OUT_OF_MEMORY)},
    (Cause.WROTE_AFTER_CLOSE, Cause.PEER_FIREWALL): PEERS_RULES,
    (Cause.UNREACHABLE, Cause.PEER_FIREWALL): PEERS_RULES,
    (Cause.UNREACHABLE, Cause.PATH_DIED): "a new connection to the same port at once; the routes of the router",
    (Cause.UNREACHABLE, Cause.SILENT_AFTER_IDLE): "a new connection to the same port at once",
    **{(each, Cause.UNKNOWN): BPF_SEES for each in OF_RESETS},
    **{
        (each, other): OWN_RULES if other is Cause.LOCAL_FIREWALL else BPF_COUNTS
        for each in (*OF_RESETS, Cause.UNKNOWN)
        for other in not_ruled_out(BEHIND_A_LATE_RESET, BEHIND_A_LATE_RESET)
        if other is not each
    },
    **{
        (each, other): OWN_RULES if other is Cause.LOCAL_FIREWALL else BPF_COUNTS
        for each in OF_TIMEOUTS
        for other in not_ruled_out(BEHIND_A_TIMEOUT, BEHIND_A_TIMEOUT)
        if other is not each
    },
    (Cause.UNREACHABLE, Cause.LOCAL_NETWORK): OWN_ROUTES,
    (Cause.PEER_NOT_READING, Cause.USER_TIMEOUT): "whether the peer's program reads again later than TCP_USER_TIMEOUT "
    "allows: then a longer one helps",
    DEAF: WINDOW,
    DEAF[::-1]: WINDOW,
    **{
        (aborted, other): BPF_SEES
        for aborted in (Cause.PEER_ABORTED, Cause.PEER_ABORTED_AFTER_CLOSE)
        for other in (*not_ruled_out(BEHIND_AN_ABORT, BEHIND_AN_ABORT), Cause.PEER_NOT_READING)
        if other is not aborted
    },
    **{(aborted, Cause.PEER_KEEPALIVE): KEEPALIVE for aborted in (Cause.PEER_ABORTED, Cause.PEER_ABORTED_AFTER_CLOSE)},
    (Cause.UNKNOWN, Cause.PEER_ABORTED): "the bpf engine, which sees the packet of the reset",
    (Cause.UNKNOWN, Cause.UNKNOWN_TO_PEER): "the bpf engine, which sees the packet of the reset",
    (Cause.UNKNOWN, Cause.MIDDLEBOX_IDLE): "the bpf engine, which sees the packet of the reset",
    (Cause.UNKNOWN, Cause.MIDDLEBOX_BUSY): "the bpf engine, which sees the packet of the reset",
}
