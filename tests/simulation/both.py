"""One script, played by this machine's kernel and by the model of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from keepaliveD.model.sockets import Sockets, Timer
from keepaliveD.platforms.linux.reading.dumps import BATCH
from keepaliveD.platforms.linux.reading.sock_diag import SockDiag
from tests.simulation.connection import Connection, Plan
from tests.simulation.kernel import HZ, NEVER, Clock, End, Kind, Options, Sysctls
from tests.simulation.path import Firewall, Outage
from tests.support.rig import SERVER, Namespace, Rig

TCP_USER_TIMEOUT = 18  # include/uapi/linux/tcp.h
ETH_P_IP = 0x0800
EVERY = 0.2  # seconds from one reading to the next
HOP = 0.00005  # seconds
SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h
LATE = 0.02  # seconds that a reading may take to be worth anything
RST = 4  # of the flags
SYSTEM = Sysctls(7200, 75, 9)
OPTIONS = {
    "idle": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    "interval": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    "probes": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    "on": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    "user_timeout": (socket.IPPROTO_TCP, TCP_USER_TIMEOUT),  # milliseconds
}


class Act(NamedTuple):
    """At `when` the end "here" or "peer" does `what`: sets an option, sends, or loses the path ("cut")."""

    when: float
    who: str
    what: str
    value: int = 0


class Reading(NamedTuple):
    """What a scan shows of the end here. Seconds."""

    at: float
    timer: Timer
    expires: float
    sent: float
    received: float
    acked: float
    segments_in: int
    segments_out: int


class Packet(NamedTuple):
    """What passed the middle."""

    at: float
    who: str
    kind: Kind


@dataclass(slots=True)
class Course:
    """What came of one connection's script: instants are those of CLOCK_MONOTONIC."""

    opened: float = 0.0
    acts: list[Act] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)


def phase() -> float:
    """What this machine's jiffies are ahead of CLOCK_MONOTONIC."""
    text = Path("/proc/timer_list").read_text(encoding="ascii")
    now, jiffies = (re.search(pattern, text) for pattern in (r"now at (\d+) nsecs", r"jiffies: (\d+)"))
    assert now
    assert jiffies
    return int(jiffies[1]) - int(now[1]) / 1e9 * HZ


class Stage:
    """The real kernel: all connections at once, through a rig whose firewall forgets nothing meanwhile."""

    def __init__(self, scripts: dict[str, list[Act]], seconds: float) -> None:
        self._scripts = scripts
        self._seconds = seconds
        self._ends: dict[tuple[str, str], socket.socket] = {}
        self._name_of: dict[int, str] = {}  # by the port here
        self._seen: list[tuple[int, Packet]] = []  # with the port here
        self.courses = {name: Course() for name in scripts}

    def play(self) -> dict[str, Course]:
        """Play it."""
        with ExitStack() as stack:
            rig = stack.enter_context(Rig(mode="drop", timeout=10_000))
            with self._watched(rig.firewall):
                self._open(rig, stack)
                diag = rig.client.inside(SockDiag)
                with _urgent():
                    self._run(rig, diag)
        for port, packet in self._seen:
            course = self.courses[self._name_of[port]]
            if packet.at > course.opened:
                course.packets.append(packet)
        return self.courses

    def _open(self, rig: Rig, stack: ExitStack) -> None:
        address = SERVER[socket.AF_INET]
        server = stack.enter_context(rig.server.inside(lambda: socket.create_server((address, 7))))
        for name in self._scripts:
            here = stack.enter_context(rig.client.inside(socket.socket))
            here.connect((address, 7))
            self.courses[name].opened = time.monotonic()
            self._ends[name, "here"] = here
            self._ends[name, "peer"] = stack.enter_context(server.accept()[0])
            self._name_of[here.getsockname()[1]] = name

    def _run(self, rig: Rig, diag: SockDiag) -> None:
        start = time.monotonic()
        acts = sorted((act, name) for name, script in self._scripts.items() for act in script)
        pause = threading.Event()
        scratch = bytearray(BATCH)
        reading = start + EVERY
        with contextlib.closing(diag):
            while (now := time.monotonic()) < start + self._seconds:
                if acts and start + acts[0][0].when <= now:
                    act, name = acts.pop(0)
                    self._act(rig, name, act)
                elif reading <= now:
                    self._read(diag, scratch)
                    reading += EVERY
                else:
                    following = min(reading, start + acts[0][0].when if acts else reading)
                    pause.wait(max(0.0, following - now))

    def _act(self, rig: Rig, name: str, act: Act) -> None:
        end = self._ends[name, act.who]
        if act.what == "cut":
            port = self._ends[name, "here"].getsockname()[1]
            rig.firewall.nft(
                "table inet cut {\nchain through {\ntype filter hook forward priority -1\n"
                f"tcp sport {port} drop\ntcp dport {port} drop\n}}\n}}"
            )
        elif act.what == "send":
            end.send(b"x")
        else:
            end.setsockopt(*OPTIONS[act.what], act.value)
        self.courses[name].acts.append(act._replace(when=time.monotonic()))

    def _read(self, diag: SockDiag, scratch: bytearray) -> None:
        sockets = Sockets()
        before = time.monotonic()
        diag.dump(0, sockets, scratch)
        after = time.monotonic()
        if after - before > LATE:
            return
        at = (before + after) / 2
        columns = ("local_port", "timer", "expires", "since_sent", "since_received", "since_acked")
        for row in zip(*(sockets[name].tolist() for name in (*columns, "segments_in", "segments_out")), strict=True):
            port, timer, expires, *rest = row
            if port in self._name_of:
                self.courses[self._name_of[port]].readings.append(Reading(at, Timer(timer), expires, *rest))

    @contextlib.contextmanager
    def _watched(self, firewall: Namespace) -> Iterator[None]:
        """Remember what comes from either side, whether it is forwarded or not."""
        over = threading.Event()
        with ExitStack() as stack:
            for side, who in (("side1", "here"), ("side2", "peer")):
                tap = stack.enter_context(firewall.inside(_tap))
                tap.bind((side, ETH_P_IP))
                thread = threading.Thread(target=self._watch, args=(tap, who, over))
                thread.start()
                stack.callback(thread.join)
            stack.callback(over.set)
            yield

    def _watch(self, tap: socket.socket, who: str, over: threading.Event) -> None:
        expected: dict[int, int] = {}  # the next sequence number, by the port here
        while not over.is_set():
            try:
                data, ((*_, stamp),), _, (_, _, direction, *_) = tap.recvmsg(2048, socket.CMSG_SPACE(16))
            except TimeoutError:
                continue
            if direction == socket.PACKET_OUTGOING:
                continue
            now = _instant(stamp)
            packet = data[(data[0] & 15) * 4 :]
            source, destination, sequence = struct.unpack_from("!HHI", packet)
            port = source if who == "here" else destination
            length = struct.unpack_from("!H", data, 2)[0] - (data[0] & 15) * 4 - (packet[12] >> 4) * 4
            kind = _kind(packet[13], length, sequence - expected.get(port, sequence))
            if kind is not Kind.PROBE:
                expected[port] = sequence + length + (packet[13] >> 1 & 1)
            self._seen.append((port, Packet(now, who, kind)))


@contextlib.contextmanager
def _urgent() -> Iterator[None]:
    """This thread runs before all others: what it does is done when it says, however busy the machine is."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _tap() -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    tap.settimeout(EVERY)
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return tap


def _instant(stamp: bytes) -> float:
    """CLOCK_MONOTONIC when the kernel stamped a packet with CLOCK_REALTIME."""
    seconds, nanoseconds = struct.unpack("qq", stamp)
    return float(seconds + nanoseconds / 1e9 - time.clock_gettime(time.CLOCK_REALTIME) + time.monotonic())


def _kind(flags: int, length: int, ahead: int) -> Kind:
    """A probe is an empty segment whose number is one less than the next one should have."""
    if flags & RST:
        return Kind.RESET
    if length:
        return Kind.DATA
    return Kind.PROBE if ahead == -1 else Kind.ACK


def modelled(course: Course, ahead: float) -> Course:
    """The same acts at the same instants, in the model; read when the real one was read."""
    clock = Clock(ahead)
    cut = next((act.when for act in course.acts if act.what == "cut"), NEVER)
    plan = Plan(
        number=0,
        born=course.opened,
        ends=NEVER,
        timeout=NEVER,
        path=0,
        firewalls=[Firewall(NEVER, rejects=False)],
        honest=True,
        latency=HOP,
        here=Options(),
        peer=Options(),
        here_sysctls=(SYSTEM,),
        peer_sysctls=(SYSTEM,),
        here_clock=clock,
        peer_clock=clock,
        program=iter(()),
        thinks=0.0,
        delays_acks=False,
        outages=[Outage(cut, NEVER, segment) for segment in (0, 1)] if cut < NEVER else [],
        vanishes=NEVER,
    )
    connection = Connection(plan, story=True)
    done = Course(course.opened)
    for act in course.acts:
        if act.what != "cut":
            connection.at(act.when, _do, (connection, act))
    for reading in course.readings:
        connection.advance(reading.at)
        if connection.here.died_at == NEVER:
            done.readings.append(_reading(connection.here, reading.at))
    connection.advance(max(course.readings[-1].at, *(packet.at for packet in course.packets)) + EVERY)
    for when, what in connection.story or ():
        sent = re.match(r"(here|peer) +sends (\w+)", what)
        if sent:
            done.packets.append(Packet(when, sent[1], Kind[sent[2]]))
    return done


def _do(now: float, work: tuple[Connection, Act]) -> None:
    connection, act = work
    end = connection.here if act.who == "here" else connection.peer
    match act.what:
        case "send":
            end.send(now)
        case "on":
            end.set_keepalive(now, bool(act.value))
        case "idle":
            end.set_idle(now, act.value)
        case "interval":
            end.options.interval = act.value
        case "probes":
            end.options.probes = act.value
        case "user_timeout":
            end.options.user_timeout = act.value / 1000


def _reading(end: End, at: float) -> Reading:
    jiffies = end.clock.jiffies(at)
    timer, expires = end.timer()
    sent, received, acked = ((jiffies - stamp) / HZ for stamp in (end.last_sent, end.last_received, end.last_ack))
    left = max(0, expires - jiffies) / HZ if timer else 0.0
    return Reading(at, timer, left, sent, received, acked, end.segments_in, end.segments_out)


def differences(real: Course, model: Course, within: float) -> Iterator[str]:
    """Where they differ, in words; a reading at the very moment of a change may differ, but not the next one too."""
    differed = False
    for one, other in zip(real.readings, model.readings, strict=False):
        times = ("expires", "sent", "received", "acked")
        far = [name for name in times if abs(getattr(one, name) - getattr(other, name)) > within]
        far += [name for name in ("timer", "segments_in", "segments_out") if getattr(one, name) != getattr(other, name)]
        if far and differed:
            yield f"{one.at - real.opened:8.3f} {', '.join(far)}: real {one[1:]}, model {other[1:]}"
        differed = bool(far)
    if abs(len(real.readings) - len(model.readings)) > 1:
        yield f"read {len(real.readings)} times, in the model {len(model.readings)} times"
    for who, kind in itertools.product(("here", "peer"), Kind):
        ours, theirs = (
            sorted(packet.at for packet in course.packets if packet.who == who and packet.kind is kind)
            for course in (real, model)
        )
        if len(ours) != len(theirs) or any(abs(a - b) > within for a, b in zip(ours, theirs, strict=True)):
            yield f"{kind.name} from {who}: real {_since(ours, real)}, model {_since(theirs, real)}"


def _since(instants: list[float], course: Course) -> list[float]:
    return [round(instant - course.opened, 3) for instant in instants]
