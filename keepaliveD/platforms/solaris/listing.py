"""Solaris and illumos: connstat(8) where it is, else the sequence numbers that netstat(8) -v shows.

Neither shows idle times, timers or SO_KEEPALIVE, nor do their counters move for a probe. pfiles(1)
would show the option, but it stops the process that it looks at.
connstat came to illumos in 2019 (issue 11547); its parsable form has no header and keeps its order
(usr/src/cmd/connstat/connstat.c, connstat_tcp.c).
Unverified: how connstat escapes what separates its fields, and that netstat of Solaris 11, whose
source is not public, prints as that of illumos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from keepaliveD.platforms.listing.command import listed
from keepaliveD.platforms.listing.endpoints import dotted, end
from keepaliveD.platforms.listing.rows import ListedSocket, Listing, tcp_state

LIMITS = (
    "no program shows how long a connection has been idle: that is known only after a scan has seen data pass",
    "no program shows the keepalive of a socket, and probes are not counted: the verdict on connections is unknown",
)
FIELDS = ("laddr", "lport", "raddr", "rport", "insegs", "outsegs", "retranssegs", "state")  # of connstat
FIGURES = 8  # columns of netstat -v between the addresses and the state
SNEXT, RNEXT = 1, 4  # next sequence number to send, and expected, among them
LISTEN = "LISTEN"
FAMILIES = ("TCP", "TCP: IPv4", "TCP: IPv6")


def sunos(root: Path) -> Listing:
    """The better of the two that is there."""
    return Connstat(root) if (root / Connstat.program).exists() else Netstat(root)


class Connstat:
    """Asks connstat below `root`; it counts segments that carry data."""

    program = "usr/bin/connstat"
    limits = LIMITS

    def __init__(self, root: Path = Path("/")) -> None:
        self._program = root / self.program

    def read(self, _now: float) -> Sequence[ListedSocket]:
        """All connections. Raises Unsupported, NotPermitted, KernelError."""
        return listed(_by_connstat, self._program, "-P", "-o", ",".join(FIELDS))


class Netstat:
    """Asks netstat below `root`."""

    program = "usr/bin/netstat"
    limits = LIMITS

    def __init__(self, root: Path = Path("/")) -> None:
        self._program = root / self.program

    def read(self, _now: float) -> Sequence[ListedSocket]:
        """All connections. Raises Unsupported, NotPermitted, KernelError."""
        return listed(_by_netstat, self._program, "-anv", "-P", "tcp")


def listeners(root: Path) -> list[str]:
    """Local ends of the sockets that listen, as netstat writes them: what they accept keeps to their settings.

    Raises Unsupported, NotPermitted, KernelError.
    """
    return sorted(set(listed(_listening, root / Netstat.program, "-anv", "-P", "tcp")))


def _listening(text: str) -> list[str]:
    return [local for local, _, rest in _netstat_sockets(text) if rest[FIGURES] == LISTEN]


def _by_connstat(text: str) -> list[ListedSocket]:
    return list(_connstat_rows(text))


def _connstat_rows(text: str) -> Iterator[ListedSocket]:
    for line in text.splitlines():
        values = line.replace("\\", "").split(",")  # libofmt may escape what separates
        if len(values) != len(FIELDS):
            raise ValueError(f"{line!r} has not {len(FIELDS)} fields")
        row = dict(zip(FIELDS, values, strict=True))
        state = tcp_state(row["state"])
        received, *sent = (_decimal(row[name]) for name in ("insegs", "outsegs", "retranssegs"))
        local, remote = end(row["laddr"], row["lport"]), end(row["raddr"], row["rport"])
        if state and local and remote:
            yield ListedSocket(local, remote, state, received=received, sent=sum(sent))


def _by_netstat(text: str) -> list[ListedSocket]:
    return list(_netstat_rows(text))


def _netstat_sockets(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Two lines a socket: the local end, then the remote one with all the rest."""
    lines = iter(text.splitlines())
    for line in lines:
        words = line.split()
        if not words or line.strip() in FAMILIES or words[0] == "Local/Remote" or set(line) <= {"-", " "}:
            continue
        if len(words) != 1:
            raise ValueError(f"{line!r} is no local address")
        remote, *rest = next(lines, "").split() or [""]
        if len(rest) <= FIGURES:
            raise ValueError(f"{line!r} is followed by no line with {FIGURES} figures and a state")
        yield words[0], remote, rest


def _netstat_rows(text: str) -> Iterator[ListedSocket]:
    for local, remote, rest in _netstat_sockets(text):
        figures, state = rest[:FIGURES], tcp_state(rest[FIGURES])
        zone = rest[FIGURES + 1] if len(rest) > FIGURES + 1 else ""
        local_end, remote_end = dotted(local), dotted(remote)
        if state and local_end and remote_end:
            yield ListedSocket(
                local_end,
                remote_end,
                state,
                identity=zone,
                received=int(figures[RNEXT], 16),
                sent=int(figures[SNEXT], 16),
            )


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no count")
    return int(text)
