"""Stopped for any time, by SIGSTOP or by the freezer of its cgroup: the same process goes on as if nothing had been.

So does one whose log nobody reads. Either way SIGTERM ends it within two seconds, with the settings as found.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from keepaliveD.log.entries import MESSAGE_IDS
from keepaliveD.platforms.linux.bpf.connect import cgroup_root
from tests.support.patience import SOON, ending, family
from tests.support.processes import Home
from tests.support.rig import INTERVAL, PROBES, TIME, Namespace
from tests.torture.faults import DAEMON, ENGINES, OURS
from tests.torture.kind import Cases, Counts, Failure, Kind
from tests.torture.program import Listener, ended_well

FOUND = {TIME: 7201, INTERVAL: 73, PROBES: 11}
FOREIGN = 7000  # TIME of somebody else
SCAN = 0.3  # seconds
LONGEST = 6.0  # scans
ROUNDS, SHORT = 400, 16
END = 2.0  # seconds from SIGTERM to the end, in which the machine lets it run
READ, STOPPED, FULL = "read", "read no more", "full from the start"  # what becomes of the log
CONFIGURATION = """
    [keepalive]
    idle = "{idle}s"
    interval = "{interval}s"
    probes = {probes}
    [watch]
    engine = "{engine}"
    interval = "{scan}s"
    namespaces = "own"
"""


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process is stopped by a signal during the block."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    yield
    os.kill(pid, signal.SIGCONT)


CGROUP = "keepalived-torture-"  # of the names of those that are made here


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """By the freezer of a cgroup, with its worker, as `systemctl freeze` does it. Who is killed ends there, too."""
    root = cgroup_root(Path("/"))
    cgroup = root / f"{CGROUP}{os.stat('/proc/self/ns/pid').st_ino}-{pid}"
    cgroup.mkdir()
    try:
        move(pid, cgroup)
        (cgroup / "cgroup.freeze").write_text("1", encoding="ascii")
        yield
        (cgroup / "cgroup.freeze").write_text("0", encoding="ascii")
    finally:
        move(pid, root)
        _remove(cgroup)


def move(pid: int, cgroup: Path) -> None:
    """Move a daemon and its workers there, as far as they have not ended."""
    for each in family(pid):
        with contextlib.suppress(ProcessLookupError):
            (cgroup / "cgroup.procs").write_text(str(each), encoding="ascii")


def _remove(cgroup: Path) -> None:
    """Once the kernel has let go of who ended in it."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return cgroup.rmdir()
        time.sleep(0.01)
    raise Failure(f"{cgroup} cannot be removed")


PAUSES: tuple[Callable[[int], AbstractContextManager[None]], ...] = (stopped, frozen)


@dataclass
class Life:
    """One daemon, and what it went through."""

    host: Namespace
    home: Home
    daemon: Popen[str]
    dice: random.Random
    engine: str
    log: str
    expected: dict[str, int] = field(default_factory=lambda: dict(FOUND))  # in the end
    history: list[str] = field(default_factory=list)
    counts: Counts = field(default_factory=Counter)

    def fail(self, what: str) -> Failure:
        """With all that was done to it."""
        return Failure(f"{what} (engine {self.engine}, log {self.log}; {', '.join(self.history)})")

    def until(self, key: str, value: int, otherwise: str) -> None:
        """Wait for a setting; fail where it does not come to stand."""
        deadline = time.monotonic() + SOON
        while self.host.sysctl(key) != value:
            if time.monotonic() > deadline:
                raise self.fail(otherwise)
            time.sleep(0.02)


def one_round(seed: str, directory: Path) -> Counts:
    """One daemon is paused a few times, for less or more than a scan; maybe its log is not read."""
    dice = random.Random(seed)
    engine, log = dice.choice(ENGINES), dice.choice((READ, READ, STOPPED, FULL))
    home = Home(directory, configuration(engine))
    with Namespace() as host:
        host.keepalive = FOUND
        with host.running(*DAEMON, *home.options) as daemon:
            life = Life(host, home, daemon, dice, engine, log)
            listener = Listener(daemon)
            started(life, listener)
            for _ in range(dice.randint(1, 3)):
                paused(life)
                dice.choice((foreign, reloaded, lambda _: None))(life)
            terminated(life)
            listener.end()
        ended_well(daemon.returncode, listener.said)
        if daemon.returncode or host.keepalive != life.expected:
            raise life.fail(f"ended with {daemon.returncode}; {host.keepalive} stands instead of {life.expected}")
    life.counts[f"log {log}"] += 1
    return life.counts


def configuration(engine: str, probes: int = OURS[PROBES]) -> str:
    """The daemon's."""
    return CONFIGURATION.format(idle=OURS[TIME], interval=OURS[INTERVAL], probes=probes, engine=engine, scan=SCAN)


def started(life: Life, listener: Listener) -> None:
    """Until its settings stand, and its log is as it is to be."""
    if life.log == FULL:
        fill(life.daemon)
        life.until(TIME, OURS[TIME], "it does not start")
        return
    if not listener.hear(MESSAGE_IDS["started"]):
        raise life.fail(f"it did not start: {listener.last_words}")
    if life.log == STOPPED:
        fill(life.daemon)


def fill(daemon: Popen[str]) -> None:
    """Leave no room in the pipe that its log goes to."""
    assert daemon.stderr
    pipe = os.open(f"/proc/self/fd/{daemon.stderr.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        for size in (4096, 1):
            with contextlib.suppress(BlockingIOError):
                while os.write(pipe, b" " * size):
                    pass
    finally:
        os.close(pipe)


def paused(life: Life) -> None:
    """It stays what it was."""
    dice = life.dice
    by, scans = dice.choice(PAUSES), dice.choice((dice.uniform(0.05, 1), dice.uniform(1, 2), dice.uniform(2, LONGEST)))
    life.history.append(f"{by.__name__} for {scans:.2f} scans")
    with by(life.daemon.pid):
        time.sleep(scans * SCAN)
    life.counts[f"paused for {'over' if scans > 1 else 'under'} a scan"] += 1
    time.sleep(dice.uniform(0.05, SCAN))
    if life.daemon.poll() is not None:
        raise life.fail(f"it ended with {life.daemon.returncode}")
    if life.host.keepalive[INTERVAL] != OURS[INTERVAL]:
        raise life.fail(f"{life.host.keepalive} stands")


def foreign(life: Life) -> None:
    """Somebody else sets one of its settings: it sets it again."""
    life.history.append("somebody else set one")
    life.expected[TIME] = FOREIGN
    life.host.set_sysctl(TIME, FOREIGN)
    life.until(TIME, OURS[TIME], "what somebody else set is not set again")


def reloaded(life: Life) -> None:
    """It goes by another configuration."""
    life.history.append("reloaded")
    probes = life.host.keepalive[PROBES] + 1
    life.home.configure(configuration(life.engine, probes))
    life.daemon.send_signal(signal.SIGHUP)
    life.until(PROBES, probes, "the new configuration is not in force")


def terminated(life: Life) -> None:
    """In time; the signal may come while it is paused."""
    if life.dice.random() < 0.3:
        by = life.dice.choice(PAUSES)
        life.history.append(f"SIGTERM while {by.__name__}")
        with by(life.daemon.pid):
            life.daemon.send_signal(signal.SIGTERM)
            time.sleep(life.dice.uniform(0, 3 * SCAN))
        life.counts["terminated in a pause"] += 1
    else:
        life.history.append("SIGTERM")
        life.daemon.send_signal(signal.SIGTERM)
    try:
        taken, hindered = ending(life.daemon.pid)
    except TimeoutError as error:
        raise life.fail(f"after SIGTERM {error}") from error
    if taken - hindered > END:
        raise life.fail(f"it took {taken:.1f} s to end, of which it waited {hindered:.1f} s for a processor")


@contextlib.contextmanager
def begin() -> Iterator[Cases]:
    """Remove the cgroups of tortures that were killed."""
    for stale in cgroup_root(Path("/")).glob(f"{CGROUP}*"):
        with contextlib.suppress(OSError):  # somebody is in it
            stale.rmdir()
    yield Cases(lambda: map(str, range(ROUNDS)), lambda: map(str, range(SHORT)), one_round)


KIND = Kind(
    "pauses",
    "the same process goes on; SIGTERM ends it within 2 s, the settings as found",
    begin,
    at_once=4,
)
