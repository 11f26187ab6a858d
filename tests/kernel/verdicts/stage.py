"""Plays stories over real firewalls, with daemons at both ends, and keeps all that was seen and said.

Everything happens in one loop of one thread: the programs' sockets, the firewalls' packets and the
daemons' logs. What it could not do in time it does late: only measured instants are compared.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from socket import (
    AF_INET,
    IPPROTO_TCP,
    SHUT_WR,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    create_server,
    socket,
)
from typing import Any, NamedTuple

from tests.kernel.verdicts.stories import ENDS, End, Settings, Step, Story, Wall
from tests.kernel.verdicts.wire import Packet, Wire
from tests.support.rig import INTERVAL, PROBES, SERVER, TIME, Rig

Entry = dict[str, Any]  # one line of a daemon's JSON log

TCP_USER_TIMEOUT = 18  # include/uapi/linux/tcp.h
CLIENT = "10.99.1.2"
SERVED, FIRST_PORT = 1_000, 20_000  # the server's port, and the first of the clients', each of which is used once
PATHS = 64  # so many connections at once have a path each: else a log would tell of several in one entry
STARTING = 180.0  # seconds in which all daemons start, however busy the machine
BEAT = 0.1  # seconds: what takes twice as long was kept waiting by the machine
LAST_WORDS = 1.0  # seconds in which daemons write what they have said
ENGINES = ("bpf", "netlink")
# Daemons would look through this process's descriptors for the owner of each socket that they tell of, which is not
# compared, and costs more than all scans: they see no processes but their own.
ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
# -P: the package that PYTHONPATH names, or that is installed here, never the one in the current directory
NOTING = (*ALONE, sys.executable, "-P", str(Path(__file__).with_name("noting.py")))
ASK, WORD = b"?", b"."


@dataclass
class Life:
    """What became of a story. Instants are seconds of the epoch."""

    story: Story
    port: int
    packets: list[Packet] = field(default_factory=list)
    deeds: list[tuple[float, str]] = field(default_factory=list)
    until: dict[End, float] = field(default_factory=dict)  # from when on this end is no longer established

    def see(self, packets: list[Packet]) -> None:
        """Take in all packets, which may tell sooner than the program of an end's end."""
        self.packets = sorted(packets, key=lambda packet: packet.at)
        for end in ENDS:
            ends = (packet.at for packet in self.packets if packet.ends(end == "client"))
            self.until[end] = min(self.until[end], next(ends, self.until[end]))


class Scan(NamedTuple):
    """Between these instants a daemon read all sockets, each at one of its own; seconds of the epoch."""

    begin: float
    end: float


@dataclass
class Watch:
    """What one daemon said, of each connection by its client's port, and when it looked."""

    wall: Wall
    engine: str
    end: End
    ready_at: float
    entries: dict[int, list[Entry]]
    scans: list[Scan]


class Pause(NamedTuple):
    """A time in which this process got no processor, so that others may not have either; seconds of the epoch."""

    begin: float
    end: float


@dataclass(frozen=True)
class Played:
    """All that happened at one firewall."""

    wall: Wall
    lives: list[Life]
    watches: list[Watch]
    pauses: list[Pause] = field(default_factory=list)


def play(stories: dict[Wall, list[Story]]) -> list[Played]:
    """Play all these stories at once, to their ends."""
    with many_descriptors(), first_in_line(), contextlib.ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        stages = [Stage(wall, tales, loop, stack) for wall, tales in stories.items()]
        for stage in stages:
            stage.open_early()
        for stage in stages:
            stage.start_daemons()
        loop.run_until(lambda: all(stage.ready for stage in stages), within=STARTING)
        for stage in stages:
            stage.begin()
        longest = max(max(story.opens_at, 0) + story.lasts for tales in stories.values() for story in tales)
        loop.run_until(lambda: all(stage.over for stage in stages), within=longest + STARTING)
        assert all(stage.over for stage in stages), "the machine is too busy: not all connections were opened"
        loop.run_until(lambda: False, within=LAST_WORDS)
        return [stage.played() for stage in stages]


@contextlib.contextmanager
def first_in_line() -> Iterator[None]:
    """Come before other work of the machine, and so do the daemons that are begun: a late scan sees no truth."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, usual - 10)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """As many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Loop:
    """Does what is due, and takes in what has come."""

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self.pauses: list[Pause] = []

    def at(self, instant: float, work: Callable[[], None]) -> None:
        """Do this then; an instant is one of CLOCK_MONOTONIC."""
        heapq.heappush(self._due, (instant, next(self._number), work))

    def on_input(self, source: socket | int, work: Callable[[], None]) -> None:
        """Do this whenever there is something to read."""
        self._selector.register(source, EVENT_READ, work)

    def forget(self, source: socket | int) -> None:
        """Read there no more."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)

    def run_until(self, reached: Callable[[], bool], within: float) -> None:
        """Go on until that is reached, or so many seconds have passed."""
        end = time.monotonic() + within
        while not reached() and (now := time.monotonic()) < end:
            until = min(end, self._due[0][0] if self._due else end, now + BEAT)
            begin = time.time()
            for key, _ in self._selector.select(max(0, until - now)):
                key.data()
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()
            if time.time() - begin > 2 * BEAT:
                self.pauses.append(Pause(begin + BEAT, time.time()))

    def close(self) -> None:
        """Give back its descriptor."""
        self._selector.close()


class Log:
    """A daemon's log, and the notes of its scans."""

    def __init__(self, engine: str, end: End, process: subprocess.Popen[str], notes: Path, loop: Loop) -> None:
        assert process.stderr
        self.engine, self.end = engine, end
        self._notes = notes
        self._process, self._loop = process, loop
        self._descriptor = process.stderr.fileno()
        self._rest = b""
        self.lines: list[bytes] = []
        os.set_blocking(self._descriptor, False)
        loop.on_input(self._descriptor, self._read)

    def close(self) -> None:
        """Read no more."""
        self._loop.forget(self._descriptor)

    def scans(self) -> list[Scan]:
        """All of its scans, but for one that has not been noted yet."""
        lines = self._notes.read_text(encoding="ascii").splitlines(keepends=True)
        return [Scan(*map(float, line.split())) for line in lines if line.endswith("\n")]

    def _read(self) -> None:
        octets = os.read(self._descriptor, 1 << 16)
        if not octets:
            self._loop.forget(self._descriptor)
        *lines, self._rest = (self._rest + octets).split(b"\n")
        self.lines += lines

    def entries(self) -> list[Entry]:
        """All that it said; fail unless it runs, and has said something."""
        said = b"\n".join([*self.lines, self._rest]).decode()
        assert self._process.poll() is None, f"the {self.engine} daemon at the {self.end} ended: {said}"
        assert self.lines, f"the {self.engine} daemon at the {self.end} said nothing"
        return [json.loads(line) for line in self.lines]


class Stage:
    """One firewall, the programs at both its sides, and the daemons beside them."""

    def __init__(self, wall: Wall, stories: Sequence[Story], loop: Loop, stack: contextlib.ExitStack) -> None:
        self.wall, self._loop, self._stack = wall, loop, stack
        self._rig = stack.enter_context(Rig(wall.mode, wall.timeout))
        for host in (self._rig.client, self._rig.server):
            host.keepalive = {TIME: wall.system, INTERVAL: 1, PROBES: 5}
        self._wire = Wire(self._rig.firewall, CLIENT)
        stack.callback(self._wire.socket.close)
        loop.on_input(self._wire.socket, self._wire.read)
        self._lives = {FIRST_PORT + n: Life(story, FIRST_PORT + n) for n, story in enumerate(stories)}
        self._listener = self._rig.server.inside(lambda: create_server((SERVER[AF_INET], SERVED), backlog=128))
        stack.callback(self._listener.close)
        loop.on_input(self._listener, self._accept)
        clients = self._rig.client.inside(self._sockets)
        self._programs = {port: Program(self._lives[port], clients[port], loop) for port in self._lives}
        for program in self._programs.values():
            stack.callback(program.close)
        self.logs: list[Log] = []

    @property
    def ready(self) -> bool:
        """Whether each daemon has said a first word."""
        return all(log.lines for log in self.logs)

    @property
    def over(self) -> bool:
        """Whether all stories have ended."""
        return all(program.closed for program in self._programs.values())

    def open_early(self) -> None:
        """Begin the stories that begin before the daemons."""
        for program in self._programs.values():
            if program.life.story.opens_at < 0:
                program.connect()

    def begin(self) -> None:
        """Begin the others, each in its time; fail unless all daemons run."""
        for log in self.logs:
            log.entries()
        now = time.monotonic()
        for program in self._programs.values():
            if (after := program.life.story.opens_at) >= 0:
                self._loop.at(now + after, program.connect)

    def start_daemons(self) -> None:
        """Start each engine at each end."""
        hosts = {"client": self._rig.client, "server": self._rig.server}
        for end, engine in itertools.product(ENDS, ENGINES):
            home = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            (home / "config.toml").write_text(self._configuration(engine), encoding="utf-8")
            files = (f"--config={home / 'config.toml'}", f"--state-dir={home / 'state'}")
            daemon = (*NOTING, str(home / "scans"), "--log-format=json", *files)
            process = self._stack.enter_context(hosts[end].running(*daemon))
            self.logs.append(Log(engine, end, process, home / "scans", self._loop))
            self._stack.callback(self.logs[-1].close)

    def played(self) -> Played:
        """What was seen and said."""
        self._wire.read()
        assert not self._wire.lost, "packets went by unseen: the machine is too busy to compare anything"
        for port, life in self._lives.items():
            life.see(self._wire.packets[port])
        watches = [self._watch(log) for log in self.logs]
        return Played(self.wall, list(self._lives.values()), watches, self._loop.pauses)

    def _watch(self, log: Log) -> Watch:
        said: dict[int, list[Entry]] = {}
        entries = log.entries()
        side = "KEEPALIVE_LOCAL_PORT" if log.end == "client" else "KEEPALIVE_REMOTE_PORT"
        for entry in entries:
            if "KEEPALIVE_VERDICT" in entry:
                said.setdefault(entry[side], []).append(entry)
        return Watch(self.wall, log.engine, log.end, entries[0]["timestamp"], said, log.scans())

    def _configuration(self, engine: str) -> str:
        wall = self.wall
        ports = [[port for port in self._lives if port % PATHS == n] for n in range(PATHS)]
        paths = "".join(
            f'[[path]]\nname = "{n}"\nports = {some}\ntimeout = "{wall.timeout}s"\n'
            for n, some in enumerate(ports)
            if some
        )
        return f"""
            [keepalive]
            apply = false
            arm = "observe"
            [watch]
            engine = "{engine}"
            namespaces = "own"
            interval = "{wall.interval}s"
            warn_before = "{max(wall.timeout / 2, wall.interval)}s"
            {paths}"""

    def _sockets(self) -> dict[int, socket]:
        clients = {}
        for port in self._lives:
            clients[port] = socket(AF_INET)
            clients[port].setblocking(False)
            clients[port].bind((CLIENT, port))
        return clients

    def _accept(self) -> None:
        accepted, address = self._listener.accept()
        self._programs[address[1]].accepted(accepted)


class Program:
    """Both ends of one connection, and what is done at each."""

    def __init__(self, life: Life, client: socket, loop: Loop) -> None:
        self.life, self._loop = life, loop
        self._ends: dict[End, socket] = {"client": client}
        self.closed = False

    def connect(self) -> None:
        """Open it."""
        self._configure("client")
        self._ends["client"].connect_ex((SERVER[AF_INET], SERVED))

    def accepted(self, server: socket) -> None:
        """Begin the story."""
        server.setblocking(False)
        self._ends["server"] = server
        self._configure("server")
        now = time.monotonic()
        for end in ENDS:
            self._loop.on_input(self._ends[end], partial(self._hear, end))
        for step in self.life.story.steps:
            self._loop.at(now + step.at, partial(self._do, step))
        self._loop.at(now + self.life.story.lasts, self.close)

    def close(self) -> None:
        """End it."""
        self.closed = True
        while self._ends:
            end, each = self._ends.popitem()
            self._gone(end, "closes")
            self._loop.forget(each)
            each.close()

    def _configure(self, end: End) -> None:
        connection, settings = self._ends[end], self.life.story.settings(end)
        for option, value in _options(settings):
            connection.setsockopt(*option, value)
        if settings.idle is not None:
            connection.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)

    def _do(self, step: Step) -> None:
        if self.closed:
            return
        if step.what == "half-close":
            self._gone(step.end, "closes its half")
            with contextlib.suppress(OSError):
                self._ends[step.end].shutdown(SHUT_WR)
        else:
            self._say(step.end, ASK if step.what == "ask" else WORD)

    def _say(self, end: End, word: bytes) -> None:
        self._note(end, f"says {word.decode()}")
        try:
            self._ends[end].send(word)
        except OSError as error:
            self._gone(end, str(error))

    def _hear(self, end: End) -> None:
        try:
            heard = self._ends[end].recv(1024)
        except BlockingIOError:
            return
        except OSError as error:
            heard = b""
            self._gone(end, str(error))
        if not heard:
            self._loop.forget(self._ends[end])
            self._gone(end, "sees the end")
        if ASK in heard:
            self._say(end, WORD)

    def _gone(self, end: End, why: str) -> None:
        self._note(end, why)
        self.life.until.setdefault(end, time.time())

    def _note(self, end: End, deed: str) -> None:
        self.life.deeds.append((time.time(), f"{end} {deed}"))


def _options(settings: Settings) -> Iterator[tuple[tuple[int, int], int]]:
    if settings.idle:
        yield (IPPROTO_TCP, TCP_KEEPIDLE), settings.idle
        yield (IPPROTO_TCP, TCP_KEEPINTVL), settings.interval
        yield (IPPROTO_TCP, TCP_KEEPCNT), settings.probes
    if settings.user_timeout:
        yield (IPPROTO_TCP, TCP_USER_TIMEOUT), settings.user_timeout * 1000
