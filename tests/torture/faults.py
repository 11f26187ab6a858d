"""Each system call in use fails with each plausible error, once and for ever.

Which calls are in use, and how often, is measured first: a daemon with each engine, and each command of keepalivectl,
run under strace(1). Then strace makes one of these calls fail, in a run for each case. What fails before the first
line of ours is the interpreter's own affair: the count of the calls until then is known, and a call that was hit
earlier all the same is told apart by the trace, and counted.
"""

from __future__ import annotations

import contextlib
import random
import re
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection, create_server, socket
from subprocess import Popen
from typing import Self

from keepaliveD.log.entries import MESSAGE_IDS
from tests.support.loopback import FORGOTTEN
from tests.support.patience import family
from tests.support.processes import Home
from tests.support.rig import DIE_WITH_US, INTERVAL, PROBES, TIME, Namespace
from tests.torture.errnos import AGAIN, plausible
from tests.torture.kind import Cases, Counts, Failure, Kind, directory
from tests.torture.program import Listener, ended_well

FOUND = {TIME: 7201, INTERVAL: 73, PROBES: 11}
SET_BY_OTHERS = 7777  # TIME, while the daemon runs
OURS = {TIME: 60, INTERVAL: 10, PROBES: 5}
SCAN = 0.1  # seconds
A_FEW_SCANS = 0.35
SHORT = 30  # cases in the test suite
DAEMON, CTL = ((str(Path(sys.executable).with_name(name)),) for name in ("tcp-keepalived", "keepalivectl"))
ENGINES = ("netlink", "bpf")
COMMANDS = ("restore", "disarm", "arm", "sockets", "check", "engine")
SOME = ("restore",)
ASSERTED = "Assertion 'prctl(PR_GET_NAME"  # libsystemd takes the failure of a call that cannot fail for its own bug
OUR_FIRST_LINE = re.compile(r"openat\(.*/keepaliveD/(?!(__pycache__/)?__(init|main)__)")  # what the entry point imports


def configuration(engine: str, idle: int = OURS[TIME]) -> str:
    """The daemon's: of sockets everywhere, but it arms none outside of the torture's own network.

    Its rule needs a verdict, so that it is no rule for new connections: nothing is attached to the root cgroup.
    """
    return f"""
        [keepalive]
        idle = "{idle}s"
        interval = "{OURS[INTERVAL]}s"
        probes = {OURS[PROBES]}
        arm = "observe"
        [watch]
        engine = "{engine}"
        interval = "{SCAN}s"
        ignore = []
        default_timeout = "infinity"
        [[path]]
        name = "to itself"
        networks = ["{FORGOTTEN}/32"]
        timeout = "30s"
        [[arm]]
        networks = ["{FORGOTTEN}/32"]
        verdict = ["late", "bare"]
        action = "enable"
        idle = "auto"
    """


class Place:
    """A namespace with a connection at risk, and the daemon's files."""

    def __init__(self, home: Path, engine: str) -> None:
        self.engine = engine
        self.home = Home(home, configuration(engine))
        with contextlib.ExitStack() as stack:
            self.host = stack.enter_context(Namespace())
            self.host.keepalive = FOUND
            self._listener = stack.enter_context(self.host.inside(lambda: create_server((FORGOTTEN, 0))))
            self.near = stack.enter_context(self.host.inside(self._connect))
            self._ends = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _connect(self) -> socket:
        return create_connection(self._listener.getsockname())

    def command(self, name: str) -> tuple[str, ...]:
        """The daemon, or a command of keepalivectl."""
        state, config = f"--state-dir={self.home.state}", f"--config={self.home.file}"
        arguments = {
            "restore": ("restore", state),
            "disarm": ("disarm", state),
            "arm": ("arm", "{}:{}".format(*self.near.getpeername()), "--idle=20s", "--interval=5s", state, config),
            "sockets": ("sockets", "--all", "--json", config),
            "check": ("check", str(self.home.file)),
            "engine": ("engine", config),
        }
        if name == "daemon":
            return (*DAEMON, *self.home.options)
        return (*CTL, *arguments[name])

    def prepare(self, name: str) -> None:
        """Let there be something for the command to do."""
        if name in ("restore", "disarm"):
            self.home.configure(configuration(self.engine).replace("[watch]", '[watch]\nnamespaces = "own"'))
            with self.host.running(*self.home.command) as daemon:
                listener = Listener(daemon)
                assert listener.hear(MESSAGE_IDS["started"]), listener.last_words
                daemon.kill()
                listener.end()
            self.home.configure(configuration(self.engine))


# what is in use


@dataclass(frozen=True)
class Use:
    """How often a program's main thread calls the kernel: until our first line, until it is ready, and then.

    strace counts the calls of each thread apart: what other threads alone call is counted in the busiest of them.
    """

    before: Counts
    starting: Counts
    running: Counts


CALL = re.compile(r"^(?P<pid>\d+) +(?P<call>[a-z]\w*)\(")
WHOLE = ("strace", "-D", "-f", "--quiet=all", "--string-limit=400")


def use(name: str, engine: str) -> Use:
    """Of a run in which nothing fails."""
    with directory() as home, Place(Path(home), engine) as place:
        place.prepare(name)
        log = Path(home, "log")
        with place.host.running(*WHOLE, f"--output={log}", "--", *place.command(name)) as process:
            listener = Listener(process)
            if name == "daemon":
                assert listener.hear(MESSAGE_IDS["started"]), listener.last_words
                go_on(place, process)
            status = listener.end()
            assert status == 0, listener.last_words
        return _counted(log.read_text(encoding="utf-8", errors="replace").splitlines(), process.pid)


def _counted(trace: Iterable[str], main: int) -> Use:
    """What the lines of a trace come to."""
    by_phase: tuple[dict[int, Counts], ...] = tuple(defaultdict(Counter) for _ in range(3))
    phase = 0
    for line in trace:
        if phase == 0 and OUR_FIRST_LINE.search(line):
            phase = 1
        if match := CALL.match(line):
            by_phase[phase][int(match["pid"])][match["call"]] += 1
        if phase == 1 and MESSAGE_IDS["started"] in line:
            phase = 2
    counts = []
    for threads in by_phase:
        own, others = threads.pop(main, Counter()), Counter[str]()
        for other in threads.values():
            others |= other
        counts.append(own + Counter({call: times for call, times in others.items() if call not in own}))
    return Use(*counts)


def go_on(place: Place, daemon: Popen[str]) -> None:
    """A daemon's whole life: it looks, somebody sets one of its settings, it is reloaded, and stopped."""
    time.sleep(A_FEW_SCANS)
    place.host.set_sysctl(TIME, SET_BY_OTHERS)
    time.sleep(A_FEW_SCANS)
    place.home.configure(configuration(place.engine, idle=50))
    daemon.send_signal(signal.SIGHUP)
    time.sleep(A_FEW_SCANS)
    daemon.send_signal(signal.SIGTERM)


# cases


@dataclass(frozen=True)
class Fault:
    """This call fails with this error, once or for ever, from the number-th time on.

    `phase`: "start" counts from the first instruction, "run" from when the daemon is ready.
    """

    name: str
    engine: str
    phase: str
    call: str
    errno: str
    how: str
    number: int

    @property
    def seed(self) -> str:
        """It in one word."""
        return ":".join((self.name, self.engine, self.phase, self.call, self.errno, self.how, str(self.number)))

    @classmethod
    def of(cls, seed: str) -> Self:
        """It by that word."""
        name, engine, phase, call, errno, how, number = seed.split(":")
        return cls(name, engine, phase, call, errno, how, int(number))

    @property
    def inject(self) -> tuple[str, ...]:
        """What to tell strace."""
        when = f"{self.number}+" if self.how == "ever" else str(self.number)
        return (
            f"--inject={self.call}:error={self.errno}:when={when}",
            f"--trace={self.call},openat",
            "--quiet=attach,exit,thread-execve",
        )


def faults(commands: Sequence[str] = COMMANDS) -> Iterator[Fault]:
    """All: of the daemon with each engine, at its start and later; of each command."""
    for engine in ENGINES:
        of_daemon = use("daemon", engine)
        yield from _of("daemon", engine, "start", of_daemon.before, of_daemon.starting)
        yield from _of("daemon", engine, "run", Counter(), of_daemon.running)
    for name in commands:
        of_command = use(name, "netlink")
        yield from _of(name, "netlink", "start", of_command.before, of_command.starting)


def _of(name: str, engine: str, phase: str, before: Counts, calls: Counts) -> Iterator[Fault]:
    for call, times in sorted(calls.items()):
        for errno in plausible(call):
            dice = random.Random(f"{name} {engine} {phase} {call} {errno}")
            for how in ("once",) if errno in AGAIN else ("once", "ever"):
                for nth in {dice.randint(1, times), *([1] if how == "ever" else [dice.randint(1, times)])}:
                    yield Fault(name, engine, phase, call, errno, how, before[call] + nth)


def some() -> Iterator[str]:
    """A few, always the same where the calls are the same."""
    every = list(faults(SOME))
    yield from (fault.seed for fault in random.Random(1).sample(every, SHORT))


def run(seed: str, home: Path) -> Counts:
    """One fault."""
    fault = Fault.of(seed)
    with Place(home, fault.engine) as place:
        place.prepare(fault.name)
        log = home / "log"
        life = {"start": begun_faulty, "run": made_faulty}[fault.phase]
        status, said = life(place, fault, log)
        hits = injected(log, fault)
        if hits is None:
            return Counter({"before our first line": 1})
        if ASSERTED in said:
            return Counter({"asserted by libsystemd": 1})
        counts = Counter({"hit" if hits else "not met": 1})
        ended_well(status, said)
        examine(place, fault, status, said, counts)
        return counts


def begun_faulty(place: Place, fault: Fault, log: Path) -> tuple[int, str]:
    """The whole life under strace."""
    command = ("strace", "-D", "-f", f"--output={log}", *fault.inject, "--", *place.command(fault.name))
    with place.host.running(*command) as process:
        listener = Listener(process)
        if fault.name == "daemon":
            listener.hear(MESSAGE_IDS["started"], 3.0)  # it may be unable to say so
            time.sleep(2 * SCAN)
            process.send_signal(signal.SIGTERM)
        return listener.end(), listener.said


def made_faulty(place: Place, fault: Fault, log: Path) -> tuple[int, str]:
    """strace comes to it and its worker when it is ready."""
    with place.host.running(*place.command(fault.name)) as process:
        listener = Listener(process)
        assert listener.hear(MESSAGE_IDS["started"]), listener.last_words
        pids = family(process.pid)
        attach = [f"--attach={pid}" for pid in pids]
        strace = (*DIE_WITH_US, "strace", "-f", f"--output={log}", *fault.inject, *attach)
        with Popen(strace, stdin=-3, stdout=-1, stderr=-1, text=True) as tracer:
            traced = Listener(tracer)
            try:
                for pid in pids:
                    await_traced(pid, traced)
                go_on(place, process)
                return listener.end(), listener.said
            finally:
                process.kill()
                traced.end()


def await_traced(pid: int, tracer: Listener) -> None:
    """Until strace has it, or it has ended: the fault may meet the worker at once."""
    deadline = time.monotonic() + 60
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "TracerPid:\t0\n" in (status := Path(f"/proc/{pid}/status").read_text(encoding="ascii")):
            state = status.partition("State:\t")[2].partition("\n")[0]
            if state.startswith("Z"):
                return
            if time.monotonic() > deadline:
                ended = tracer.process.poll()
                raise TimeoutError(
                    f"strace does not come to {pid} ({state}); it ended with {ended}, and said: {tracer.last_words}"
                )
            time.sleep(0.005)


def injected(log: Path, fault: Fault) -> int | None:
    """How often it failed; None where that was before our first line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    hits = [number for number, line in enumerate(lines) if "(INJECTED)" in line]
    ours = next((number for number, line in enumerate(lines) if OUR_FIRST_LINE.search(line)), len(lines))
    if hits and fault.phase == "start" and hits[0] < ours:
        return None
    return len(hits)


def examine(place: Place, fault: Fault, status: int, said: str, counts: Counts) -> None:
    """The settings are as found, or the program has said that they are not and `restore` can do it."""
    expected = FOUND | ({TIME: SET_BY_OTHERS} if fault.phase == "run" else {})
    stands = place.host.keepalive
    if stands == expected:
        return
    about_settings = fault.name in ("daemon", "restore")
    if about_settings and status == 0:
        raise Failure(f"ended with 0, but {stands} stands instead of {expected}: {said.strip()[-400:]}")
    done = place.host.run(*place.command("restore"))
    if done.returncode or place.host.keepalive != expected:
        raise Failure(
            f"ended with {status}, and restore with {done.returncode}: {place.host.keepalive} stands instead of "
            f"{expected}: {said.strip()[-300:]} / {done.stdout}{done.stderr}"
        )
    counts["restored later"] += about_settings


KIND = Kind(
    "faults",
    "no traceback, a status of sysexits.h, the settings as found",
    lambda: contextlib.nullcontext(Cases(lambda: (fault.seed for fault in faults()), some, run)),
    at_once=4,
)
