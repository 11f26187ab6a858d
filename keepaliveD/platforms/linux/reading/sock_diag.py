"""All TCP sockets of a network namespace by NETLINK_SOCK_DIAG, or the word that some may be missing."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from io import FileIO
from typing import NamedTuple

from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms.linux.reading.dumps import Dumps

ATTEMPTS = 3  # at a dump that changes keep interrupting

COUNTS = "/proc/thread-self/net"  # of the namespace in which they are opened (net/ipv4/proc.c, net/ipv6/proc.c)
COUNTS_OF: dict[int, str] = {socket.AF_INET: "sockstat", socket.AF_INET6: "sockstat6"}
COUNTS_SIZE = 1024  # bytes; they have some 200
IN_USE = re.compile(rb"^TCP6?: inuse (\d+)", re.MULTILINE)
FEW, ONE_IN = 16, 64  # that many, and one of so many, may be missing where sockets come and go meanwhile


class Tally(NamedTuple):
    """How many sockets a dump has met, and how many the kernel counted before and after it; None if unknown."""

    before: int | None
    met: int
    after: int | None


class SockDiag:
    """A reader of one network namespace: that of the thread which opened it.

    The kernel counts the sockets there by family. A family without sockets is not dumped, because a dump walks the
    sockets of all families and namespaces. The counts also show whether a dump was whole: if a socket does not fit
    into a message, the kernel ends the dump there, without an error.
    """

    def __init__(self, counts: str = COUNTS) -> None:
        """Find the counts in that directory. Raises NotPermitted, Unsupported, KernelError."""
        self._dumps = Dumps()
        self._counts = {family: _opened(f"{counts}/{name}") for family, name in COUNTS_OF.items()}

    def close(self) -> None:
        """Let go of the namespace, which an open socket keeps alive."""
        self._dumps.close()
        for file in filter(None, self._counts.values()):
            file.close()

    def dump(self, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        """Append all TCP sockets of both families; false where the kernel may have left some out.

        `netns` goes into the column of that name; `scratch`, of BATCH bytes, is overwritten.
        Raises KernelError where the kernel refuses, Malformed where its answer makes no sense.
        """
        families = [family for family in COUNTS_OF if self._count(family) != 0]
        whole = [self._dump_family(family, netns, sockets, scratch) for family in families]
        return all(whole)

    def _count(self, family: int) -> int | None:
        """Return how many sockets the kernel counts, in every state but SYN_RECV and TIME_WAIT; None if unknown."""
        file = self._counts[family]
        try:
            found = IN_USE.search(os.pread(file.fileno(), COUNTS_SIZE, 0)) if file else None
        except OSError:
            return None
        return int(found[1]) if found else None

    def _dump_family(self, family: int, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        start = len(sockets)
        tallies: list[Tally] = []
        for _ in range(ATTEMPTS):
            sockets.truncate(start)
            before = self._count(family)
            met, undisturbed = self._dumps.receive(family, netns, sockets, scratch)
            tallies.append(Tally(before, met, self._count(family)))
            if undisturbed and are_all(tallies):
                return True
        return False


def _opened(path: str) -> FileIO | None:
    try:
        return FileIO(path)
    except OSError:
        return None  # hidden by a sandbox, perhaps


def are_all(tallies: Sequence[Tally]) -> bool:
    """Return whether the last of these dumps has told of all sockets: of as many as there were before or after it.

    Some that come or go meanwhile may be missing. Nobody comes or goes where nothing differs between the dumps.
    """
    last = tallies[-1]
    if last.before is None or last.after is None:
        return True
    fewer = min(last.before, last.after)
    at_rest = last.before == last.after and len(set(tallies)) == 1
    return last.met >= fewer - (0 if at_rest else FEW + fewer // ONE_IN)
