"""kill -9 at random moments, while somebody else sets the same sysctls: nothing that was found or set is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from keepaliveD.log.entries import MESSAGE_IDS
from tests.support.patience import SOON
from tests.support.processes import CTL, SCAN, Home, configuration
from tests.support.rig import INTERVAL, PROBES, TIME, Namespace
from tests.torture import oracle
from tests.torture.kind import Cases, Counts, Failure, Kind
from tests.torture.program import FOREIGN, PYTHON, await_begun, whole_output

ROUNDS = 1000
SHORT = 30
LIFE = 0.6  # seconds in which the daemon becomes ready under strace, and a little more
WRITING = 0.004  # seconds that recording, writing and settling take
ENDING = 0.15  # seconds from SIGTERM to the end
RELOADING = 0.02  # seconds from the signal to the last write
DRIFTS = ("reapply", "reapply", "reapply", "yield", "warn")


@dataclass
class Machine:
    """One network namespace, and all that happens to its keepalive sysctls."""

    home: Home
    host: Namespace
    dice: random.Random
    foreign: list[oracle.Foreign] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    counts: Counts = field(default_factory=Counter)

    def traced(self) -> tuple[str, ...]:
        """A command that runs another and lets the oracle see it."""
        self.logs.append(self.home.file.with_name(f"trace{len(self.logs)}"))
        return oracle.traced(self.logs[-1])

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[Popen[str]]:
        """A program of ours, from its first instruction on, seen by the oracle."""
        with self.host.running(*self.traced(), *command) as process:
            await_begun(process)
            yield process

    @property
    def touches(self) -> list[oracle.Touch]:
        """What we did to the sysctls."""
        return sorted((touch for log in self.logs for touch in oracle.touches(log)), key=lambda touch: touch.start)

    @contextlib.contextmanager
    def somebody_else(self, most: int = 4) -> Iterator[None]:
        """Another process sets some of them during the block, each to a value that nobody ever set."""
        writes = [self._write() for _ in range(self.dice.randint(0, most))]
        timed = sorted((write for write in writes if not write[0].startswith("r")), key=lambda write: float(write[0]))
        plan = [word for write in [*timed, *(write for write in writes if write not in timed)] for word in write]
        with self.host.running(*PYTHON, FOREIGN, str(self.home.state), *plan) as writer:
            assert writer.stdout
            writer.stdout.readline()
            assert writer.stdin
            print(file=writer.stdin, flush=True)
            yield
            said, complaint = writer.communicate(timeout=SOON)
            assert not complaint, complaint
        for line in said.splitlines():
            key, value, start, end = line.split()
            self.foreign.append(oracle.Foreign(key, int(value), float(start), float(end)))
            self.counts["foreign writes"] += 1

    def _write(self) -> tuple[str, str, str]:
        """A moment, a key and a value for foreign.py."""
        by_record = self.dice.random() < 0.5
        moment = f"r{self.dice.uniform(0, WRITING):.6f}" if by_record else f"{self.dice.uniform(0, LIFE):.6f}"
        key = self.dice.choice((TIME, INTERVAL, PROBES))
        return moment, key, str(fresh(key, self.dice, {write.value for write in self.foreign}))


def fresh(key: str, dice: random.Random, used: set[int]) -> int:
    """A value that the kernel takes, that is none of ours, and that tells who wrote it."""
    lowest, highest = {TIME: (1000, 30_000), INTERVAL: (50, 5000), PROBES: (10, 120)}[key]
    while (value := dice.randint(lowest, highest)) in used:
        pass
    used.add(value)
    return value


def one_round(seed: str, directory: Path) -> Counts:
    """One machine's life: killed once or more often, then restored."""
    dice = random.Random(seed)
    with Namespace() as host:
        machine = Machine(Home(directory, configuration()), host, dice)
        machine.home.state.mkdir(mode=0o700)  # as a service manager does, before the first instruction
        found = {key: fresh(key, dice, set()) for key in (TIME, INTERVAL, PROBES)}
        host.keepalive = found
        machine.foreign += [oracle.Foreign(key, value, 0.0, 0.0) for key, value in found.items()]
        for _ in range(dice.randint(1, 2)):
            killed_daemon(machine)
            if dice.random() < 0.25:
                killed_restore(machine)
        dice.choice((restored, restored, restarted_and_stopped))(machine)
        return examined(machine)


def examined(machine: Machine) -> Counts:
    """What the oracle says."""
    ours = machine.touches
    for key, stands in machine.host.keepalive.items():
        touches = [touch for touch in ours if touch.key == key]
        verdict = oracle.judge(stands, [write for write in machine.foreign if write.key == key], touches)
        machine.counts["unseen"] += verdict.unseen
        if lost := verdict.lost:
            what = "written by somebody else" if lost.start else "found at first"
            story = oracle.story(lost, touches)
            raise Failure(f"{key}: {lost.value}, {what}, is lost: {stands} stands; {story}")
    machine.counts["writes of ours"] += sum(touch.writes for touch in ours)
    machine.counts["of them blind for over 1 ms"] += sum(window > 0.001 for window in oracle.windows(ours))
    return machine.counts


def killed_daemon(machine: Machine) -> None:
    """A daemon that is killed at some moment."""
    dice = machine.dice
    drift, idle = dice.choice(DRIFTS), dice.randint(2, 3)
    machine.home.configure(lively(f'on_drift = "{drift}"', idle=idle))
    with machine.somebody_else(), machine.running(*machine.home.command) as daemon:
        dice.choice(MOMENTS)(machine, daemon)
        kill(daemon, machine.counts)


def lively(*keepalive: str, idle: int) -> str:
    """A configuration under which it looks as often as it may."""
    return configuration(*keepalive, idle=idle).replace(f'interval = "{SCAN}s"', 'interval = "100ms"')


def killed_restore(machine: Machine) -> None:
    """A `keepalivectl restore` that is killed at some moment."""
    with machine.somebody_else(1), machine.running(*restore(machine.home)) as process:
        machine.dice.choice((anywhere, while_it_writes))(machine, process)
        kill(process, machine.counts)


def restored(machine: Machine) -> None:
    """The end by `keepalivectl restore`."""
    with machine.somebody_else(1):
        done = machine.host.run(*machine.traced(), *restore(machine.home))
    if done.returncode or done.stderr:
        raise Failure(f"restore ended with {done.returncode}: {done.stderr.strip()}")


def restarted_and_stopped(machine: Machine) -> None:
    """The end by a daemon that starts over what the killed ones left, and is stopped: at any moment, or once ready."""
    machine.home.configure(lively(idle=machine.dice.randint(2, 3)))
    with machine.somebody_else(2), machine.running(*machine.home.command) as daemon:
        machine.dice.choice((anywhere, lambda _, daemon: await_ready(daemon)))(machine, daemon)
        daemon.send_signal(signal.SIGTERM)
        said = whole_output(daemon)
    if daemon.returncode == -signal.SIGTERM and not said:  # before it caught signals
        restored(machine)
    elif daemon.returncode or "Traceback" in said:
        raise Failure(f"the last daemon ended with {daemon.returncode}: {said[-300:].strip()}")


def restore(home: Home) -> tuple[str, ...]:
    """The command."""
    return (*CTL, "restore", f"--state-dir={home.state}")


def kill(process: Popen[str], counts: Counts) -> None:
    """It may have ended by itself; either way nothing may be wrong with it."""
    process.kill()
    said = whole_output(process)
    counts["killed"] += process.returncode == -signal.SIGKILL
    if "Traceback" in said:
        raise Failure(f"traceback before it was killed: {said.strip().splitlines()[-1]}")


# moments


def anywhere(machine: Machine, _process: Popen[str]) -> None:
    """From its first instruction to its first scans."""
    time.sleep(machine.dice.uniform(0, LIFE))


def while_it_writes(machine: Machine, _process: Popen[str]) -> None:
    """From the record on, if there is something to write."""
    before, deadline = version(machine.home), time.monotonic() + LIFE
    while version(machine.home) == before and time.monotonic() < deadline:
        time.sleep(0.0001)
    time.sleep(machine.dice.uniform(0, WRITING))


def while_it_reloads(machine: Machine, daemon: Popen[str]) -> None:
    """With something new to write, or with all to give back."""
    await_ready(daemon)
    machine.home.configure(lively(idle=4) if machine.dice.random() < 0.7 else lively("apply = false", idle=4))
    daemon.send_signal(signal.SIGHUP)
    time.sleep(machine.dice.uniform(0, RELOADING))


def while_it_stops(machine: Machine, daemon: Popen[str]) -> None:
    """Half of it restored, or all, up to its last instruction."""
    await_ready(daemon)
    daemon.send_signal(signal.SIGTERM)
    time.sleep(machine.dice.uniform(0, machine.dice.choice((WRITING, ENDING))))


MOMENTS: list[Callable[[Machine, Popen[str]], None]] = [
    anywhere,
    while_it_writes,
    while_it_reloads,
    while_it_stops,
]


def version(home: Home) -> list[tuple[str, int]]:
    """Which files are in the state directory, by name and inode."""
    try:
        with os.scandir(home.state) as files:
            return sorted((file.name, file.inode()) for file in files)
    except FileNotFoundError:
        return []


def await_ready(daemon: Popen[str]) -> None:
    """Read until it has started."""
    assert daemon.stderr
    any(MESSAGE_IDS["started"] in line for line in daemon.stderr)


CASES = Cases(lambda: map(str, range(ROUNDS)), lambda: map(str, range(SHORT)), one_round)
KIND = Kind(
    "kills",
    "what somebody else wrote last stands after restore",
    lambda: contextlib.nullcontext(CASES),
    at_once=3,
)
