"""Killed at any moment, the daemon leaves nothing that cannot be given back."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

from keepaliveD.entries import MESSAGE_IDS
from tests.kernel.processes import Home, configuration
from tests.kernel.rig import INTERVAL, PROBES, TIME, Namespace

ROUNDS = 100
LIFE = 0.4  # seconds in which the daemon becomes ready, and a little more
WRITING = 0.003  # seconds that recording, writing and settling take
RELOADING = 0.02  # seconds from the signal to the last write


def test_whenever_the_daemon_is_killed_what_was_found_can_be_given_back(tmp_path: Path) -> None:
    """In every round anew: kill it at some moment, maybe again over what it left, then restore."""
    with ThreadPoolExecutor(max_workers=2) as two:
        for _ in two.map(lambda number: one_round(tmp_path / str(number), random.Random(number)), range(ROUNDS)):
            pass  # an error comes out here


def one_round(directory: Path, dice: random.Random) -> None:
    """One machine's life."""
    found = {TIME: dice.randint(1000, 9999), INTERVAL: dice.randint(50, 99), PROBES: dice.randint(6, 20)}
    home = Home(directory, configuration())
    with Namespace() as host:
        host.keepalive = found
        for _ in range(dice.randint(1, 2)):
            home.configure(configuration(idle=dice.randint(2, 3)))
            with host.running(*home.command) as daemon:
                dice.choice(MOMENTS)(home, daemon, dice)
                daemon.kill()
        home.restore(host)
        assert host.keepalive == found


def anywhere(_home: Home, _daemon: Popen[str], dice: random.Random) -> None:
    """From its first instruction to its first idle moment."""
    time.sleep(dice.uniform(0, LIFE))


def while_it_writes(home: Home, _daemon: Popen[str], dice: random.Random) -> None:
    """From the record on, if there is something to write."""
    before, deadline = version(home), time.monotonic() + LIFE
    while version(home) == before and time.monotonic() < deadline:
        time.sleep(0.0001)
    time.sleep(dice.uniform(0, WRITING))


def while_it_reloads(home: Home, daemon: Popen[str], dice: random.Random) -> None:
    """With something new to write."""
    await_ready(daemon)
    home.configure(configuration(idle=4))
    daemon.send_signal(signal.SIGHUP)
    time.sleep(dice.uniform(0, RELOADING))


def while_it_stops(_home: Home, daemon: Popen[str], dice: random.Random) -> None:
    """Half of it given back."""
    await_ready(daemon)
    daemon.send_signal(signal.SIGTERM)
    time.sleep(dice.uniform(0, WRITING))


MOMENTS: list[Callable[[Home, Popen[str], random.Random], None]] = [
    anywhere,
    while_it_writes,
    while_it_reloads,
    while_it_stops,
]


def version(home: Home) -> int:
    """Which record is in the state directory: its inode, 0 for none."""
    records = list(home.state.glob("found*.json"))
    with contextlib.suppress(FileNotFoundError):
        return records[0].stat().st_ino if records else 0
    return 0


def await_ready(daemon: Popen[str]) -> None:
    """Read until it has started."""
    assert daemon.stderr
    assert any(MESSAGE_IDS["started"] in line for line in daemon.stderr)
