"""What ends connections: one name for each cause, as people, the journal and the configuration have it."""

from __future__ import annotations

import enum

IDLE_AFTER = 2.0  # seconds without a packet: a busy connection has shorter silences
CLOSED_IDLE_AFTER = 10.0  # seconds without data, after which a close by the peer has a cause of its own


class Cause(enum.IntEnum):
    """What ended a connection. `key` is its name in the journal and the configuration, `label` the one for people."""

    UNKNOWN = 0
    MIDDLEBOX_IDLE = 1
    MIDDLEBOX_BUSY = 2
    SILENT_AFTER_IDLE = 3
    PATH_DIED = 4
    KEEPALIVE_GAVE_UP = 5
    RETRANSMISSIONS_GAVE_UP = 6
    USER_TIMEOUT = 7
    UNREACHABLE = 8
    UNKNOWN_TO_PEER = 9
    PEER_RESTARTED = 10
    PEER_ABORTED = 11
    PEER_ABORTED_AFTER_CLOSE = 12
    PEER_KEEPALIVE = 13
    PEER_NOT_READING = 14
    PEER_CLOSED = 15
    PEER_CLOSED_IDLE = 16
    WROTE_AFTER_CLOSE = 17
    LISTENER_OVERFLOW = 18
    MD5_MISMATCH = 19
    LOCAL_KILL = 20
    LOCAL_FIREWALL = 21
    LOCAL_NETWORK = 22
    PROGRAM_KILLED = 23
    OUT_OF_MEMORY = 24
    PROGRAM_ENDED = 25
    CLOSED_UNREAD = 26
    LOCAL_ABORT = 27
    LOCAL_CLOSE = 28
    # Named only beside another one, where one host cannot tell:
    NAT_FORGOT = 29
    PEER_FIREWALL = 30
    PEER_GAVE_UP = 31
    PROXY_CLOSED = 32

    @property
    def key(self) -> str:
        """The name in the journal and in the configuration."""
        return self.name.lower().replace("_", "-")

    @property
    def label(self) -> str:
        """The name for people, which goes on from "ended: "."""
        return LABELS[self]


LABELS = {
    Cause.UNKNOWN: "unknown",
    Cause.MIDDLEBOX_IDLE: "reset by a middlebox after idle",
    Cause.MIDDLEBOX_BUSY: "reset by a middlebox while busy",
    Cause.SILENT_AFTER_IDLE: "silent after idle",
    Cause.PATH_DIED: "path died",
    Cause.KEEPALIVE_GAVE_UP: "keepalive gave up",
    Cause.RETRANSMISSIONS_GAVE_UP: "retransmissions gave up",
    Cause.USER_TIMEOUT: "user timeout",
    Cause.UNREACHABLE: "unreachable",
    Cause.UNKNOWN_TO_PEER: "peer does not know the connection",
    Cause.PEER_RESTARTED: "peer restarted",
    Cause.PEER_ABORTED: "peer aborted",
    Cause.PEER_ABORTED_AFTER_CLOSE: "peer aborted after this end had closed",
    Cause.PEER_KEEPALIVE: "peer's keepalive gave up",
    Cause.PEER_NOT_READING: "peer not reading",
    Cause.PEER_CLOSED: "peer closed",
    Cause.PEER_CLOSED_IDLE: "peer closed after idle",
    Cause.WROTE_AFTER_CLOSE: "wrote after the peer had closed",
    Cause.LISTENER_OVERFLOW: "listener overflow at the peer",
    Cause.MD5_MISMATCH: "TCP-MD5 mismatch",
    Cause.LOCAL_KILL: "killed on this host",
    Cause.LOCAL_FIREWALL: "firewall of this host",
    Cause.LOCAL_NETWORK: "network of this host",
    Cause.PROGRAM_KILLED: "its program was killed",
    Cause.OUT_OF_MEMORY: "its program was killed for lack of memory",
    Cause.PROGRAM_ENDED: "its program ended",
    Cause.CLOSED_UNREAD: "closed with unread data",
    Cause.LOCAL_ABORT: "aborted by its program",
    Cause.LOCAL_CLOSE: "closed by its program",
    Cause.NAT_FORGOT: "NAT forgot the connection",
    Cause.PEER_FIREWALL: "firewall of the peer's host",
    Cause.PEER_GAVE_UP: "peer's retransmissions gave up",
    Cause.PROXY_CLOSED: "proxy closed an idle connection",
}

ONLY_BESIDE = frozenset({Cause.NAT_FORGOT, Cause.PEER_FIREWALL, Cause.PEER_GAVE_UP, Cause.PROXY_CLOSED})

# Ends that a program or a peer brings about in its daily work: counted, and logged only where that is asked for.
EXPECTED = frozenset(
    {
        Cause.PEER_ABORTED_AFTER_CLOSE,
        Cause.PEER_CLOSED,
        Cause.PEER_CLOSED_IDLE,
        Cause.WROTE_AFTER_CLOSE,
        Cause.PROGRAM_ENDED,
        Cause.CLOSED_UNREAD,
        Cause.LOCAL_ABORT,
        Cause.LOCAL_CLOSE,
    }
)
BY_KEY = {cause.key: cause for cause in Cause if cause not in ONLY_BESIDE}


class Foretold(enum.IntEnum):
    """Whether a forecast had announced the end of a connection, and if not, why."""

    NOT_FORESEEABLE = 0  # not an end that silence brings about
    FORETOLD = 1
    NEVER_SCANNED = 2  # it lived between two scans, or is not watched
    EARLIER_THAN_EXPECTED = 3  # the path forgot it sooner than its idle timeout says
    NOT_YET_DUE = 4  # the verdict was at risk; a warning was not yet due
    PRESUMED_SAFE = 5  # a packet was to be in time
    UNKNOWN_VERDICT = 6  # its idle timeout, its idle time or its keepalive was not known

    @property
    def key(self) -> str:
        """The name in the journal."""
        return self.name.lower().replace("_", "-")

    @property
    def label(self) -> str:
        """What to say about it."""
        return FORETOLD[self]


FORETOLD = {
    Foretold.NOT_FORESEEABLE: "not foreseeable",
    Foretold.FORETOLD: "foretold",
    Foretold.NEVER_SCANNED: "not foretold: no scan has seen it",
    Foretold.EARLIER_THAN_EXPECTED: "not foretold: the path forgot it before its idle timeout",
    Foretold.NOT_YET_DUE: "not foretold: it was at risk, but a warning was not yet due",
    Foretold.PRESUMED_SAFE: "not foretold: a packet was to be in time",
    Foretold.UNKNOWN_VERDICT: "not foretold: its verdict was unknown",
}
