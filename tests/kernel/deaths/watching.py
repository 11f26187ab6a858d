"""Reads the ends of connections in a test's own network namespaces; the programs see the whole machine."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keepaliveD.model.deaths import DEATH, Deaths
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.base import DeathReader, DeathWatch
from keepaliveD.platforms.linux.deaths.reader import open_reader
from tests.support.patience import SOON
from tests.support.rig import Namespace


class Watch:
    """All ends so far in some network namespaces."""

    def __init__(self, reader: DeathReader, namespaces: set[int]) -> None:
        self.reader = reader
        self._namespaces = list(namespaces)
        self.ended: Column = np.zeros(0, DEATH)
        self.ordinary = self.lost = 0
        self.unknown: frozenset[str] = frozenset()

    def until(self, reached: Callable[[Column], bool], within: float = SOON) -> Column:
        """Return the ends as soon as that is reached."""
        give_up = time.monotonic() + within
        while not reached(self.ended):
            assert time.monotonic() < give_up, (
                f"{within:g} s have passed; {len(self.ended)} ends were seen, {self.lost} lost"
            )
            self.wait(give_up - time.monotonic())
        return self.ended

    def wait(self, most: float) -> None:
        """Take in what is there, once there is something or `most` seconds have passed."""
        due = self.reader.due()
        pause = most if due is None else min(most, max(0, due - now()))
        select.select([self.reader], [], [], pause)
        self._take(self.reader.take(now()))

    def _take(self, deaths: Deaths) -> None:
        ours = np.isin(deaths.ended["netns"], self._namespaces)
        self.ended = np.concatenate([self.ended, deaths.ended[ours]])
        self.ordinary += deaths.ordinary
        self.lost += deaths.lost
        self.unknown = deaths.unknown


@contextlib.contextmanager
def watching(*hosts: Namespace, watch: DeathWatch | None = None) -> Iterator[Watch]:
    """See the ends in these; ICMP errors are read in the first.

    In one alone nothing else is seen: other tests end thousands of connections at once, and fill the room for all.
    """
    wanted = watch or DeathWatch("bpf", idle=1.0)
    if len(hosts) == 1:
        wanted = wanted._replace(everywhere=False)
    reader = hosts[0].inside(lambda: open_reader(Path("/"), wanted))
    try:
        yield Watch(reader, {host.inode for host in hosts})
    finally:
        reader.close()


def now() -> float:
    """The daemon's clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
