"""One simulated connection: two ends, what lies between them, and what their programs do."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.kernel import CARRIES, NEVER, Clock, End, Kind, Options, Packet, Sysctls
from tests.simulation.path import IN, OUT, Firewall, Outage

Step = tuple[float, str, str]  # seconds to wait, then who ("here", "peer") does what (say, ask, finish)


@dataclass(slots=True)
class Plan:
    """Everything that makes a connection what it is; the rest follows."""

    number: int
    born: float
    ends: float  # its program closes it
    timeout: float  # of its path, as the configuration has it
    path: int
    firewalls: list[Firewall]
    honest: bool  # the path is as configured
    latency: float  # seconds from one hop to the next
    here: Options
    peer: Options
    here_sysctls: Sequence[Sysctls]
    peer_sysctls: Sequence[Sysctls]
    here_clock: Clock
    peer_clock: Clock
    program: Iterator[Step]
    thinks: float
    delays_acks: bool
    outages: Sequence[Outage]
    vanishes: float  # the peer's machine, NEVER if it does not
    changes: list[tuple[float, str, Options]] = field(default_factory=list)  # a program sets its socket anew
    read_offset: float = 0.0  # which part of a scan has passed when it is read
    about: str = ""


class Connection:
    """Advances from event to event; its lists of instants are what truth is judged by."""

    __slots__ = (
        "_heap", "_serial", "armed_at", "changed", "closed_at", "data_at", "disturbed", "here", "passed", "peer",
        "peer_changed", "plan", "probes_heard", "story", "unseen",
    )  # fmt: skip

    def __init__(self, plan: Plan, *, story: bool = False) -> None:
        self.plan = plan
        self._heap: list[tuple[float, int, Callable[[float, Any], None], Any]] = []
        self._serial = 0
        self.story: list[tuple[float, str]] | None = [] if story else None
        self.passed: list[tuple[float, Kind, int]] = []  # when the last firewall saw it, what, which way
        self.data_at: list[float] = []  # instants at which data was sent by either
        self.disturbed: list[float] = []  # instants of what nobody here could see
        self.unseen: list[float] = []  # instants of packets that passed all firewalls and were lost on this side
        self.changed: dict[float, Options] = {}  # when the program here set its socket anew, and what it had before
        self.peer_changed: dict[float, float] = {}  # when the program there did, and how often it had probed before
        self.probes_heard: list[float] = []  # of the peer, here
        self.closed_at = NEVER  # it is no longer established, or its program closed it
        self.armed_at: list[float] = []
        rtt = 2 * plan.latency * (len(plan.firewalls) + 1)
        self.here = End("here", self, plan.here_clock, sysctls=plan.here_sysctls, options=plan.here.copy(), rtt=rtt)
        self.peer = End("peer", self, plan.peer_clock, sysctls=plan.peer_sysctls, options=plan.peer.copy(), rtt=rtt)
        if plan.delays_acks:
            self.here.acks_after = self.peer.acks_after = 0.04
        self.at(plan.born, self._open, None)
        self.at(plan.ends, self._close, None)

    # events

    @property
    def next_event(self) -> float:
        """When something happens next."""
        return self._heap[0][0] if self._heap else NEVER

    def at(self, when: float, work: Callable[[float, Any], None], argument: Any) -> None:
        """Have this done then."""
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, work, argument))

    def advance(self, until: float) -> None:
        """Let everything happen that happens until then."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, work, argument = heapq.heappop(heap)
            work(when, argument)
            if self.closed_at == NEVER and self.here.state != 1 and when > self.plan.born:
                self.closed_at = when

    def cancel(self) -> None:
        """Let nothing happen at all."""
        self._heap.clear()

    def _open(self, now: float, _: None) -> None:
        for firewall in self.plan.firewalls:
            firewall.last = now
        self.passed.append((now, Kind.ACK, OUT))
        self.note(now, self.here, "connected")
        self.here.opened(now)
        self.peer.opened(now)
        self._next_step(now)
        for when, who, options in self.plan.changes:
            self.at(when, self._change, (who, options))
        if self.plan.vanishes < NEVER:
            self.at(self.plan.vanishes, self._vanish, None)

    def _close(self, now: float, _: None) -> None:
        """The program ends and the socket with it; what the peer makes of that is of no interest."""
        if self.here.died_at == NEVER:
            self.here.die(now, "closed")
        self._heap.clear()

    def _vanish(self, now: float, _: None) -> None:
        self.peer.vanished = True
        self.peer.die(now, "its machine is gone")
        self.disturbed.append(now)

    def _change(self, now: float, change: tuple[str, Options]) -> None:
        who, options = change
        end = self.here if who == "here" else self.peer
        if end.died_at < NEVER:
            return
        if self.armed_at and who == "here":
            return  # a program that sets its socket anew after we did is not this simulation's subject
        if end is self.here:
            self.changed[now] = end.options.copy()
        else:
            self.peer_changed[now] = float(max(end.idle(now), end.interval(now)))
        end.options.interval, end.options.probes = options.interval, options.probes
        end.set_keepalive(now, options.on)
        if options.idle:
            end.set_idle(now, options.idle)
        self.note(now, end, f"its program sets {options}")

    # programs

    def _next_step(self, now: float) -> None:
        step = next(self.plan.program, None)
        if step:
            wait, who, what = step
            self.at(now + wait, self._act, (who, what))

    def _act(self, now: float, step: tuple[str, str]) -> None:
        who, what = step
        end = self.here if who == "here" else self.peer
        awake = end.clock.wakes(now)
        if awake != now:
            self.at(awake + 0.1, self._act, step)
            return
        if end.died_at == NEVER:
            self._say(now, end, what)
        self._next_step(now)

    def _say(self, now: float, end: End, what: str) -> None:
        if what == "finish":
            self.note(now, end, "its program closes its side")
        end.send(now, asks=what == "ask", fin=what == "finish")

    def heard(self, now: float, end: End, asked: bool) -> None:
        """Answer what asks."""
        if asked:
            self.at(now + self.plan.thinks, self._reply, end)

    def _reply(self, now: float, end: End) -> None:
        awake = end.clock.wakes(now)
        if awake != now:
            self.at(awake, self._reply, end)
        elif end.died_at == NEVER:
            self._say(now, end, "say")

    # the wire

    def transmit(self, now: float, sender: End, kind: Kind, sequence: int, ack: int) -> None:
        """Send a packet through all firewalls, or as far as it comes."""
        direction = OUT if sender is self.here else IN
        if kind in CARRIES:
            self.data_at.append(now)
        firewalls, latency = self.plan.firewalls, self.plan.latency
        count = len(firewalls)
        when = now
        for step in range(count + 1):
            segment = step if direction == OUT else count - step
            for outage in self.plan.outages:
                if outage.segment == segment and outage.start <= when < outage.end:
                    self.note(now, sender, f"sends {kind.name}: lost in an outage")
                    self.disturbed.append(now)
                    if direction == IN and step == count:
                        self.unseen.append(now)
                    return
            when += latency
            if step == count:
                break
            firewall = firewalls[step if direction == OUT else count - 1 - step]
            if not firewall.passes(when, direction, kind, sender.snd_nxt):
                self.note(now, sender, f"sends {kind.name}: forgotten by the path since {firewall.forgets_at():.3f}")
                if firewall.rejects and kind is not Kind.RESET:
                    self.at(2 * when - now, self._bounced, sender)
                return
            seen = when
        self.passed.append((seen, kind, direction))
        self._note_sent(now, sender, kind)
        other = self.peer if direction == OUT else self.here
        if kind is Kind.PROBE and direction == IN:
            self.probes_heard.append(when)
        self.at(when, self._arrive, (other, Packet(kind, sequence, sender.snd_nxt, ack, sender.question)))

    def _arrive(self, now: float, what: tuple[End, Packet]) -> None:
        end, packet = what
        end.receive(now, packet)

    def _note_sent(self, now: float, sender: End, kind: Kind) -> None:
        if self.story is not None:  # millions of packets have none
            self.note(now, sender, f"sends {kind.name}")

    def _bounced(self, now: float, sender: End) -> None:
        """A firewall's reset comes back."""
        if sender.died_at == NEVER and sender.clock.wakes(now) == now and not sender.vanished:
            sender.segments_in += 1
            sender.die(now, "reset by the path")

    # truth

    def forgotten_at(self) -> float:
        """When the path forgets it or has done so, as far as it is known now."""
        return min(firewall.last + firewall.timeout for firewall in self.plan.firewalls)

    def note(self, now: float, end: End, what: str) -> None:
        """Remember for the story."""
        if self.story is not None:
            self.story.append((now, f"{end.name:5} {what}"))
