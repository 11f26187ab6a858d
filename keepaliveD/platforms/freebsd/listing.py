"""FreeBSD: netstat(1) with its timers, joined with its states; usr.bin/netstat/inet.c.

`-x` leaves the state out, so there are two questions. `-W` keeps IPv6 addresses whole: without it
they are cut to 16 characters, in JSON too. `-A` shows the address of the control block.
The keepalive timer runs on every socket; that it probes follows from SO_KEEPALIVE, which is not
shown, or from net.inet.tcp.always_keepalive (tcp_timer_keep, sys/netinet/tcp_timer.c).
Unverified: whether the kernel hides the control block's address from users without privilege.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.sockets import Switch, TcpState, Timer
from keepaliveD.platforms.commands.sysctl import Sysctl
from keepaliveD.platforms.listing.command import listed
from keepaliveD.platforms.listing.endpoints import End, end
from keepaliveD.platforms.listing.rows import ListedSocket, tcp_state

QUESTION = ("-nAW", "-p", "tcp", "--libxo", "json")
TIMERS = ("-nAWx", "-p", "tcp", "--libxo", "json")
# A timer prints as %d.%02d of two integers: one that is overdue by 20 ms as 0.-2, which is no JSON.
HUNDREDTHS = re.compile(r'(-timer": ?)(-?[0-9]+)\.(-?[0-9]+)')
MOST = 2.0**31  # seconds; the figures are milliseconds in 32 bits
SLACK = 2.0  # seconds by which two looks at one clock may be apart: the programs take their time

Fields = dict[str, Any]
Key = tuple[str, End, End]  # control block, local and remote end


@dataclass(frozen=True, slots=True)
class Heard:
    """When a connection's peer was last heard, an instant; and how often that changed."""

    at: float
    times: int = 0


class FreeBSD:
    """Asks below `root`."""

    limits = (
        "a connection that was quiet for more than 71 minutes (at kern.hz = 1000) at the first scan counts as quiet "
        "for less: the kernel's counter wraps around",
        "where net.inet.tcp.always_keepalive is 0, no program shows which sockets have keepalive on: the verdict on "
        "all connections is unknown",
    )

    def __init__(self, root: Path = Path("/")) -> None:
        self._netstat = root / "usr/bin/netstat"
        self._sysctl = Sysctl(root / "sbin/sysctl")
        self._heard: dict[Key, Heard] = {}
        self._taken_at = 0.0

    def read(self, now: float) -> Sequence[ListedSocket]:
        """All connections. Raises Unsupported, NotPermitted, KernelError."""
        always = self._sysctl.read("net.inet.tcp.always_keepalive") != 0
        period = 2**32 / 1000 / self._sysctl.read("kern.hz")
        states = dict(listed(_states, self._netstat, *QUESTION))
        timers = [each for each in listed(_timers, self._netstat, *TIMERS) if states.get(each.key)]
        before, self._heard = self._heard, {}
        for each in timers:
            self._heard[each.key] = _heard(before.get(each.key), each.quiet, now, now - self._taken_at, period)
        self._taken_at = now
        return [self._listed_socket(each, state, now, always=always) for each in timers if (state := states[each.key])]

    def _listed_socket(self, timers: Timers, state: TcpState, now: float, *, always: bool) -> ListedSocket:
        heard = self._heard[timers.key]
        timer, expires = timers.pending(always=always)
        block, local, remote = timers.key
        return ListedSocket(
            local,
            remote,
            state,
            identity=block,
            received=heard.times,
            quiet=now - heard.at,
            timer=timer,
            expires=expires,
            keepalive=Switch.ON if always else Switch.UNKNOWN,
        )


@dataclass(frozen=True, slots=True)
class Timers:
    """What runs on one socket: seconds until it is due, 0 if it does not run."""

    key: Key
    retransmit: float
    persist: float
    keepalive: float
    quiet: float

    def pending(self, *, always: bool) -> tuple[Timer, float]:
        """The timer that matters, and when it is due."""
        if self.retransmit:
            return Timer.RETRANSMIT, max(self.retransmit, 0.0)
        if self.persist:
            return Timer.ZERO_WINDOW, max(self.persist, 0.0)
        return (Timer.KEEPALIVE, max(self.keepalive, 0.0)) if always else (Timer.UNSEEN, 0.0)


def _heard(before: Heard | None, quiet: float, now: float, passed: float, period: float) -> Heard:
    """What a reading means after `passed` seconds.

    The kernel multiplies ticks by 1000 in 32 bits (t_rcvtime in tcp_inptoxtp, sys/netinet/tcp_subr.c), so
    that the reading wraps around every `period` seconds, or is negative for the second half of it.
    A silence that went on shows as the same instant, modulo that period.
    """
    quiet %= period
    if before is None:
        return Heard(now - quiet)
    off = (quiet - (now - before.at)) % period
    went_on = min(off, period - off) <= SLACK
    return before if went_on or quiet > passed + SLACK else Heard(now - quiet, before.times + 1)


def _states(text: str) -> list[tuple[Key, TcpState | None]]:
    return [(key, tcp_state(_text(each, "tcp-state"))) for key, each in _sockets(text)]


def _timers(text: str) -> list[Timers]:
    return [
        Timers(
            key,
            retransmit=_seconds(each, "retransmit-timer"),
            persist=_seconds(each, "persist-timer"),
            keepalive=_seconds(each, "keepalive-timer"),
            quiet=_seconds(each, "inactivity-timer"),
        )
        for key, each in _sockets(text)
    ]


def _sockets(text: str) -> Iterator[tuple[Key, Fields]]:
    """The TCP sockets of libxo's document, whatever its outermost name is, that have both ends."""
    document = json.loads(HUNDREDTHS.sub(_as_number, text))
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    sockets = [each.get("socket", []) for each in document.values() if isinstance(each, dict)]
    if not all(isinstance(each, list) for each in sockets):
        raise ValueError("socket is no list")
    for each in itertools.chain.from_iterable(sockets):
        if _text(each, "protocol").startswith("tcp"):
            local, remote = _end(each, "local"), _end(each, "remote")
            if local and remote:
                yield (_text(each, "address"), local, remote), each


def _as_number(match: re.Match[str]) -> str:
    return f"{match[1]}{int(match[2]) + int(match[3]) / 100:.2f}"


def _end(socket: Fields, side: str) -> End | None:
    fields = socket.get(side)
    return end(_text(fields, "address"), _text(fields, "port"))


def _text(fields: object, name: str) -> str:
    """A field as text; libxo pads some."""
    value = fields.get(name) if isinstance(fields, dict) else None
    if value is None:
        raise ValueError(f"a socket has no {name}")
    return str(value).strip()


def _seconds(socket: Fields, name: str) -> float:
    value = socket.get(name)
    if not isinstance(value, int | float) or not abs(value) <= MOST:
        raise ValueError(f"a socket's {name} is {value!r}, which is no number of seconds")
    return float(value)
