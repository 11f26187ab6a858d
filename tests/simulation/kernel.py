"""One end of a TCP connection as Linux has it: timers, ages and counters.

Sources: net/ipv4/tcp_timer.c, tcp_input.c, tcp.c, kernel/time/timer.c; measured in tests/simulation/test_model.py.
Left out: zero windows, congestion, reordering; a retransmission carries all that is unacknowledged.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from keepaliveD.model.sockets import TcpState, Timer

HZ = 250
LEVELS = ((63, 0), (504, 3), (4032, 6), (32256, 9), (258048, 12), (2064384, 15))  # LVL_START, LVL_SHIFT
OUTERMOST = 18
RTO_MIN = 0.2  # seconds, TCP_RTO_MIN
RTO_MAX = 120.0  # seconds, TCP_RTO_MAX
RETRIES2_TIME = 924.6  # seconds: tcp_model_timeout() of tcp_retries2 = 15
NEVER = float("inf")

TIME_WAIT = -1  # of no more interest: not among the states that are read
CLOSED = 0


class Kind(enum.IntEnum):
    """What a packet is."""

    DATA = 1
    ACK = 2
    PROBE = 3
    RESET = 4
    FIN = 5


CARRIES = frozenset({Kind.DATA, Kind.FIN})  # something that will be acknowledged


class Clock:
    """The jiffies of one machine. They stand still while it is suspended, which timers and ages do not notice."""

    def __init__(self, phase: float, asleep: Sequence[tuple[float, float]] = ()) -> None:
        self._phase = phase
        self.asleep = asleep

    def jiffies(self, now: float) -> int:
        """The last tick before `now`."""
        lost = 0.0
        for start, end in self.asleep:
            if now > start:
                lost += min(now, end) - start
        return int((now - lost) * HZ + self._phase)

    def real(self, jiffies: int) -> float:
        """The instant just after this tick."""
        instant = (jiffies - self._phase) / HZ + 1e-6
        for start, end in self.asleep:
            if instant > start:
                instant += end - start
        return instant

    def wakes(self, now: float) -> float:
        """`now`, or when the machine wakes if it sleeps then."""
        for start, end in self.asleep:
            if start <= now < end:
                return end
        return now


def level(length: int) -> int:
    """The level of the wheel that takes a timer of this length, as the number of bits that it rounds by."""
    for below, shift in LEVELS:
        if length < below:
            return shift
    return OUTERMOST


def fires(now: int, expires: int) -> int:
    """The tick at which a timer fires that is set `now`: it is rounded up to its level of the wheel."""
    if expires <= now:
        return now + 1
    shift = level(expires - now)
    return ((expires >> shift) + 1) << shift


@dataclass(frozen=True, slots=True)
class Sysctls:
    """net.ipv4.tcp_keepalive_* of a namespace, from `since` on."""

    idle: int
    interval: int
    probes: int
    since: float = -NEVER


@dataclass(slots=True)
class Options:
    """What a program has set on its socket; 0 is the namespace's. The user timeout is in seconds."""

    on: bool = False
    idle: int = 0
    interval: int = 0
    probes: int = 0
    user_timeout: float = 0.0

    def copy(self) -> Options:
        """One that can be changed by itself."""
        return dataclasses.replace(self)


class Packet(NamedTuple):
    """What travels. One that carries data holds all from `sequence` up to `upto`; `asked` wants an answer."""

    kind: Kind
    sequence: int
    upto: int
    ack: int
    asked: int


class Wire(Protocol):
    """What an end is connected to."""

    def transmit(self, now: float, sender: End, kind: Kind, sequence: int, ack: int) -> None:
        """Send a packet towards the other end; a carrying one holds all from `sequence` to the sender's snd_nxt."""

    def at(self, when: float, work: Callable[[float, Any], None], argument: Any) -> None:
        """Have this done then."""

    def heard(self, now: float, end: End, asked: bool) -> None:
        """Data has come up to the end's program."""

    def note(self, now: float, end: End, what: str) -> None:
        """Remember for the story."""


class End:
    """One socket."""

    __slots__ = (
        "acked", "acks_after", "clock", "died_at", "expires", "fast", "fires", "first_rto", "last_ack",
        "last_received", "last_sent", "name", "options", "probe_first", "probes_out", "question", "rcv_nxt",
        "retransmits", "retransmitted_at", "rto", "rto_expires", "rto_fires", "rtt", "segments_in", "segments_out",
        "slack", "snd_nxt", "snd_una", "stamp", "state", "sysctls", "tried_at", "unacknowledged_since",
        "unanswered_since", "vanished", "why", "wire",
    )  # fmt: skip

    def __init__(
        self, name: str, wire: Wire, clock: Clock, *, sysctls: Sequence[Sysctls], options: Options, rtt: float
    ) -> None:
        self.name = name
        self.wire = wire
        self.clock = clock
        self.sysctls = sysctls
        self.options = options
        self.rtt = rtt
        self.acks_after = 0.0  # seconds by which an acknowledgement is delayed
        self.state: int = CLOSED
        self.vanished = False
        self.died_at = NEVER
        self.why = ""
        self.segments_in = self.segments_out = 0
        self.last_sent = self.last_received = self.last_ack = 0  # jiffies
        self.snd_nxt = self.snd_una = self.rcv_nxt = 1
        self.acked = 1  # what the other end was told to have come
        self.stamp = 0.0  # tcp_mstamp: when a packet came or went, or a timer fired
        self.slack = 0  # jiffies by which the keepalive timer may fire later
        self.expires = -1  # jiffies of the keepalive timer, -1 without one
        self.fires = NEVER
        self.probes_out = 0
        self.first_rto = math.ceil((RTO_MIN + rtt) * HZ) / HZ
        self.rto = self.first_rto
        self.fast = False
        self.rto_expires = -1
        self.rto_fires = NEVER
        self.probe_first = False
        self.retransmits = 0
        self.retransmitted_at = 0.0
        self.tried_at = NEVER  # when it last sent a probe or data
        self.unanswered_since = NEVER  # when it sent the first of the probes that nobody has answered
        self.unacknowledged_since = NEVER  # when it sent the first of the data that nobody has acknowledged
        self.question = 0  # the sequence of what wants an answer

    def opened(self, now: float) -> None:
        """The handshake is over."""
        self.state = TcpState.ESTABLISHED
        self.segments_in, self.segments_out = 1, 2
        self.stamp = now
        self.last_sent = self.last_received = self.last_ack = self.clock.jiffies(now)
        if self.options.on:
            self._set_timer(now, self.idle(now))

    # settings

    def _system(self, now: float) -> Sysctls:
        for each in reversed(self.sysctls):
            if each.since <= now:
                return each
        raise ValueError(now)

    def idle(self, now: float) -> int:
        """keepalive_time_when()."""
        return self.options.idle or self._system(now).idle

    def interval(self, now: float) -> int:
        """keepalive_intvl_when()."""
        return self.options.interval or self._system(now).interval

    def probes(self, now: float) -> int:
        """keepalive_probes()."""
        return self.options.probes or self._system(now).probes

    def system(self, now: float) -> Sysctls:
        """What its namespace says now."""
        return self._system(now)

    def set_keepalive(self, now: float, on: bool) -> None:
        """SO_KEEPALIVE: the full time anew, and only if it was off (tcp_set_keepalive)."""
        if on and not self.options.on:
            self._set_timer(now, self.idle(now))
        elif not on:
            self.expires, self.fires = -1, NEVER
        self.options.on = on

    def set_idle(self, now: float, idle: int) -> None:
        """TCP_KEEPIDLE: anew, less what has elapsed (tcp_sock_set_keepidle_locked)."""
        self.options.idle = idle
        if self.options.on:
            jiffies = self.clock.jiffies(now)
            self._set_timer_jiffies(jiffies, max(0, idle * HZ - self._elapsed(jiffies)))

    # timers

    def _elapsed(self, jiffies: int) -> int:
        """keepalive_time_elapsed(): what a peer's probe does not touch."""
        return jiffies - max(self.last_received, self.last_ack)

    def _set_timer(self, now: float, seconds: float) -> None:
        self._set_timer_jiffies(self.clock.jiffies(now), int(seconds * HZ))

    def _set_timer_jiffies(self, jiffies: int, length: int) -> None:
        self.expires = jiffies + length
        self.slack = 1 << level(length)
        self.fires = self.clock.real(fires(jiffies, self.expires))
        self.wire.at(self.fires, self._keepalive_timer, None)

    def _keepalive_timer(self, now: float, _: None) -> None:
        """tcp_keepalive_timer()."""
        if now != self.fires or self.died_at < NEVER or not self.options.on:
            return
        self.stamp = now
        jiffies = self.clock.jiffies(now)
        idle = self.idle(now) * HZ
        if self.snd_nxt != self.snd_una:
            self._set_timer_jiffies(jiffies, idle)
            return
        elapsed = self._elapsed(jiffies)
        if elapsed < idle:
            self._set_timer_jiffies(jiffies, idle - elapsed)
            return
        if self._has_probed_enough(now, elapsed):
            self._reset(now)
            self.die(now, "keepalive got no answer")
            return
        self.segments_out += 1
        self.unanswered_since = self.unanswered_since if self.probes_out else now
        self.probes_out += 1
        self.tried_at = now
        self.wire.transmit(now, self, Kind.PROBE, self.snd_una - 1, self.rcv_nxt)
        self._set_timer_jiffies(jiffies, self.interval(now) * HZ)

    def _has_probed_enough(self, now: float, elapsed: int) -> bool:
        limit = int(self.options.user_timeout * HZ)
        return elapsed >= limit and self.probes_out > 0 if limit else self.probes_out >= self.probes(now)

    def _set_rto(self, now: float, seconds: float) -> None:
        jiffies = self.clock.jiffies(now)
        self.rto_expires = jiffies + max(1, round(seconds * HZ))
        self.rto_fires = self.clock.real(fires(jiffies, self.rto_expires))
        self.wire.at(self.rto_fires, self._retransmit_timer, None)

    def _retransmit_timer(self, now: float, _: None) -> None:
        """tcp_retransmit_timer(), and tcp_send_loss_probe() before it."""
        if now != self.rto_fires or self.died_at < NEVER:
            return
        self.stamp = now
        if self.probe_first:
            self.probe_first = False
            self._send_carrying(now)
            self._set_rto(now, self.rto)
            return
        limit = self.options.user_timeout
        if self.retransmits and now - self.retransmitted_at >= (limit or RETRIES2_TIME):
            self.die(now, "data was not acknowledged")
            return
        self._send_carrying(now)
        if not self.retransmits:
            self.retransmitted_at = now
        self.retransmits += 1
        self.rto = min(2 * self.rto, RTO_MAX)
        wait = self.rto
        if limit:
            wait = min(wait, max(1 / HZ, limit - (now - self.retransmitted_at)))
        self._set_rto(now, wait)

    # sending

    def send(self, now: float, *, asks: bool = False, fin: bool = False) -> None:
        """The program writes, or closes its side."""
        if self.state not in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT):
            return
        first = self.snd_nxt == self.snd_una
        self.snd_nxt += 1
        if asks:
            self.question = self.snd_nxt - 1
        if fin:
            self.state = TcpState.FIN_WAIT1 if self.state == TcpState.ESTABLISHED else TIME_WAIT
        if first or not self.retransmits:  # else the congestion window is one packet, which is not acknowledged
            self._send_carrying(now, Kind.FIN if fin else Kind.DATA, self.snd_nxt - 1)
        if first:
            self.unacknowledged_since = now
            self.retransmits = 0
            self.rto = self.first_rto
            self.probe_first = not fin
            self._set_rto(now, self.rto)

    def _send_carrying(self, now: float, kind: Kind = Kind.DATA, sequence: int = 0) -> None:
        self.segments_out += 1
        self.stamp = self.tried_at = now
        self.last_sent = self.clock.jiffies(now)
        self.acked = self.rcv_nxt
        if kind is Kind.DATA and self.state in (TcpState.FIN_WAIT1, TIME_WAIT):
            kind = Kind.FIN
        self.wire.transmit(now, self, kind, sequence or self.snd_una, self.rcv_nxt)

    def _acknowledge(self, now: float, sequence: int) -> None:
        if sequence > self.acked and self.died_at == NEVER:
            self._answer(now)

    def _answer(self, now: float) -> None:
        self.segments_out += 1
        self.stamp = now
        self.acked = self.rcv_nxt
        self.wire.transmit(now, self, Kind.ACK, self.snd_nxt, self.rcv_nxt)

    def _reset(self, now: float) -> None:
        self.segments_out += 1
        self.wire.transmit(now, self, Kind.RESET, self.snd_nxt, self.rcv_nxt)

    # receiving

    def receive(self, now: float, packet: Packet) -> None:
        """A packet has come."""
        kind = packet.kind
        if self.vanished or self.clock.wakes(now) != now:
            return
        if self.died_at < NEVER:
            if kind is not Kind.RESET:
                self.wire.transmit(now, self, Kind.RESET, self.snd_nxt, self.rcv_nxt)
            return
        self.segments_in += 1
        self.stamp = now
        if kind is Kind.RESET:
            self.die(now, "reset")
            return
        if kind is Kind.PROBE:
            self._answer(now)  # it is out of the window: nothing else is looked at
            return
        jiffies = self.clock.jiffies(now)
        if kind is Kind.ACK or packet.ack > self.snd_una or not self.fast:
            self._take_ack(now, jiffies, packet.ack)
        if kind in CARRIES:
            self._take_data(now, jiffies, packet)

    def _take_ack(self, now: float, jiffies: int, ack: int) -> None:
        """tcp_ack()."""
        if ack < self.snd_una:
            return
        self.last_ack = jiffies
        self.probes_out = 0
        if ack > self.snd_una:
            self.snd_una = ack
            self.retransmits = 0
            self.rto = self.first_rto
            self.probe_first = False
            if self.snd_una < self.snd_nxt:
                self._set_rto(now, self.rto)
            else:
                self.rto_expires, self.rto_fires = -1, NEVER
                if self.state == TcpState.FIN_WAIT1:
                    self.state = TcpState.FIN_WAIT2

    def _take_data(self, now: float, jiffies: int, packet: Packet) -> None:
        if not packet.sequence <= self.rcv_nxt < packet.upto:
            self._answer(now)
            return
        self.last_received = jiffies
        self.fast = True  # header prediction: from now on data alone does not count as an acknowledgement
        new_question = self.rcv_nxt <= packet.asked < packet.upto
        self.rcv_nxt = packet.upto
        if packet.kind is Kind.FIN:
            self.state = TcpState.CLOSE_WAIT if self.state == TcpState.ESTABLISHED else TIME_WAIT
            self._answer(now)
            return
        if self.acks_after:
            self.wire.at(now + self.acks_after, self._acknowledge, packet.upto)
        else:
            self._answer(now)
        self.wire.heard(now, self, new_question)

    def die(self, now: float, why: str) -> None:
        """The socket has an error, and its program lets go of it."""
        self.died_at, self.why = now, why
        self.state = CLOSED
        self.expires = self.rto_expires = -1
        self.fires = self.rto_fires = NEVER
        self.wire.note(now, self, why)

    # what can be read

    def silence(self, now: float) -> float:
        """For how long it had heard nothing then but probes of the peer, in seconds while its machine was awake."""
        return self._elapsed(self.clock.jiffies(now)) / HZ

    @property
    def listed(self) -> bool:
        """Whether a scan finds it."""
        return self.state > 0

    def timer(self) -> tuple[Timer, int]:
        """What inet_sk_diag_fill() tells: the timer, and the tick at which it expires."""
        if self.rto_expires >= 0:
            return Timer.RETRANSMIT, self.rto_expires
        if self.expires >= 0:
            return Timer.KEEPALIVE, self.expires
        return Timer.OFF, 0
