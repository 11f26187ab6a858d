"""macOS: netstat(1) with its byte counters, options and generation numbers.

-v adds the columns, -l keeps IPv6 addresses whole, -W does not cut what is wider than its column
(netstat.tproj/inet.c and inet6.c of Apple's network_cmds). Which columns there are has changed with
the versions, so the header is read; the process' name may hold spaces, so what follows it is found
from the right.
The counters are of data: a probe moves none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from keepaliveD.model.sockets import Switch
from keepaliveD.platforms.commands.run import Absent
from keepaliveD.platforms.commands.sysctl import Sysctl
from keepaliveD.platforms.listing.command import listed
from keepaliveD.platforms.listing.endpoints import dotted
from keepaliveD.platforms.listing.rows import ListedSocket, tcp_state

QUESTION = ("-anvlW", "-p", "tcp")
SO_KEEPALIVE = 0x0008  # bsd/sys/socket.h
LAST_OF_PROCESS = ("process:pid", "epid", "pid")  # the columns that say who, by version
TITLES = ("Active Internet connections", "Some ")  # lines that are no rows


class MacOS:
    """Asks below `root`."""

    limits = (
        "no program shows how long a connection has been idle: that is known only after a scan has seen data pass",
        "the system neither counts probes nor shows timers: the verdict on connections with keepalive is unknown, "
        "and the verdict cut is never certain",
    )

    def __init__(self, root: Path = Path("/")) -> None:
        self._netstat = root / "usr/sbin/netstat"
        self._sysctl = Sysctl(root / "usr/sbin/sysctl")

    def read(self, _now: float) -> Sequence[ListedSocket]:
        """All connections. Raises Unsupported, NotPermitted, KernelError."""
        otherwise = self._without_option()
        return listed(lambda text: list(_rows(text, otherwise)), self._netstat, *QUESTION)

    def _without_option(self) -> Switch:
        """What it means that a socket has no SO_KEEPALIVE."""
        try:
            return Switch.ON if self._sysctl.read("net.inet.tcp.always_keepalive") else Switch.OFF
        except Absent:
            return Switch.UNKNOWN


def _rows(text: str, without_option: Switch) -> Iterator[ListedSocket]:
    columns: dict[str, int] | None = None
    for line in text.splitlines():
        words = line.split()
        if not words or line.startswith(TITLES):
            continue
        if words[0] == "Proto":
            columns = _columns(words)
        elif columns is None:
            raise ValueError(f"{line!r} comes before the names of the columns")
        elif words[0].startswith("tcp"):
            row = _row(words, columns, without_option)
            if row:
                yield row
        else:
            raise ValueError(f"{line!r} is of no TCP connection")


def _columns(header: list[str]) -> dict[str, int]:
    """Where each column is found in the words of a row: what follows the process, from the right."""
    names = " ".join(header).replace("Local Address", "local").replace("Foreign Address", "remote").split()
    who = next((names.index(each) for each in LAST_OF_PROCESS if each in names), len(names) - 1)
    places = {name: place if place < who else place - len(names) for place, name in enumerate(names)}
    for name in ("local", "remote", "(state)", "rxbytes", "txbytes", "options"):
        if name not in places:
            raise ValueError(f"there is no column {name}")
    return places


def _row(words: list[str], columns: dict[str, int], without_option: Switch) -> ListedSocket | None:
    if len(words) < len(columns):
        raise ValueError(f"{' '.join(words)!r} has not {len(columns)} columns")
    state = tcp_state(words[columns["(state)"]])
    local, remote = dotted(words[columns["local"]]), dotted(words[columns["remote"]])
    if not (state and local and remote):
        return None
    return ListedSocket(
        local,
        remote,
        state,
        identity=words[columns["gencnt"]] if "gencnt" in columns else "",
        received=int(words[columns["rxbytes"]]),
        sent=int(words[columns["txbytes"]]),
        keepalive=Switch.ON if int(words[columns["options"]], 16) & SO_KEEPALIVE else without_option,
    )
