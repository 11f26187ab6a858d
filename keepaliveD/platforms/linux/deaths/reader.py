"""Reads how connections ended: what BPF programs tell, with what came in the second afterwards."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import numpy as np

from keepaliveD.model.autopsy import NOT_EXPLAINED
from keepaliveD.model.deaths import DEATH, Deaths
from keepaliveD.model.errors import Refusal
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.base import DeathReader, DeathWatch
from keepaliveD.platforms.linux import capabilities
from keepaliveD.platforms.linux.bpf.connect import cgroup_root
from keepaliveD.platforms.linux.bpf.deaths import BpfDeaths
from keepaliveD.platforms.linux.deaths.asleep import Asleep
from keepaliveD.platforms.linux.deaths.decode import decode
from keepaliveD.platforms.linux.deaths.destroyed import DestroyedReader
from keepaliveD.platforms.linux.deaths.icmp import IcmpErrors, Unacked
from keepaliveD.platforms.linux.deaths.resets import NUMBERS
from keepaliveD.platforms.linux.deaths.unseen import Unseen
from keepaliveD.platforms.linux.deaths.waiting import Waiting
from keepaliveD.platforms.linux.netstat import OpenEnds
from keepaliveD.platforms.linux.selection import BPF, NETLINK

AFTERWARDS = 1.0  # seconds in which packets may come that tell more of an end
MOST = 32_768  # ends that wait so long; of more than these the oldest are returned early
NONE = np.zeros(0, DEATH)
ROUTER = frozenset({"router_high", "router_low", "icmp_type", "icmp_code"})


def open_reader(root: Path, watch: DeathWatch) -> DeathReader:
    """Begin to see how connections end: by BPF where `watch` says, or else what netlink tells of our own namespace.

    Raises Unsupported, NotPermitted; if the engine must be BPF, also where only that cannot be used.
    """
    if watch.engine == NETLINK:
        return DestroyedReader('watch.engine = "netlink"', packets=watch.packets, idle=watch.idle)
    try:
        return _by_bpf(root, watch)
    except Refusal as refusal:
        if watch.engine == BPF:
            raise
        return DestroyedReader(str(refusal), packets=watch.packets, idle=watch.idle)


@capabilities.for_bpf()
def _by_bpf(root: Path, watch: DeathWatch) -> DeathReader:
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(contextlib.closing(IcmpErrors()))
        cgroup = cgroup_root(root) if watch.packets else None
        source = BpfDeaths(cgroup, watch.idle, everywhere=watch.everywhere, errors=errors.cookies)
        stack.pop_all()
        return BpfReader(source, errors, OpenEnds(root))


class BpfReader:
    """Ends wait here until they are a second old. Nothing here waits for anything: it reads its own memory.

    `hindered` says what cannot be seen and why, or "".
    """

    def __init__(self, source: BpfDeaths, errors: IcmpErrors, ends: OpenEnds) -> None:
        """Take what the first two see; `ends` is what they should have seen."""
        self._source = source
        self._errors = errors
        self._ends = ends
        self._unseen = Unseen(ends.count, source.seen_open)
        self._netns = os.stat("/proc/thread-self/ns/net").st_ino
        self._waiting = Waiting()
        self._asleep = Asleep()
        self._counted = self._counts()
        reasons = "; ".join(filter(None, (source.hindered, errors.hindered)))
        self.hindered = f"{NOT_EXPLAINED}: {reasons}" if reasons else ""
        self._unknown = source.unknown | (ROUTER if errors.hindered else frozenset())

    def fileno(self) -> int:
        """Return a descriptor that can be read from when connections have ended."""
        return self._source.fileno()

    def due(self) -> float | None:
        """Return the instant at which take() returns the next end, by CLOCK_BOOTTIME; None if none waits.

        The clocks are looked at each time, so that it is known when the machine was suspended.
        """
        self._asleep.look()
        first = self._waiting.first
        return None if first is None else first * 1e-9 + AFTERWARDS

    @capabilities.for_bpf()
    def take(self, now: float, *, early: bool = False) -> Deaths:
        """Return the connections that ended a second before `now` or earlier, and what was counted since the last time.

        While 32,768 wait, the oldest are returned at once; with `early`, all are.
        """
        self._errors.read()
        self._receive()
        pieces = self._waiting.take(max(0, (now - AFTERWARDS) * 1e9), 0 if early else MOST)
        self._asleep.look()
        rows = [self._with_router(decode(piece), piece) for piece in pieces]
        ordinary, lost = self._counts()
        before_ordinary, before_lost = self._counted
        self._counted = ordinary, lost
        for each in rows:
            self._asleep.lengthen(each)
        return Deaths(
            rows[0] if len(rows) == 1 else np.concatenate([NONE, *rows]),
            ordinary - before_ordinary,
            lost - before_lost,
            unknown=self._unknown,
        )

    def close(self) -> None:
        """See nothing any more."""
        self._source.close()
        self._errors.close()
        self._ends.close()

    def _counts(self) -> tuple[int, int]:
        """Return how many ended ordinarily, and how many otherwise without a record, since the start.

        Each change of state for which the programs were not run may have been such an end. What the kernel has counted
        is among these, unless it hides them.
        """
        ordinary, lost = self._source.counts()
        return ordinary, lost + max(self._unseen.count(), self._source.skipped())

    def _receive(self) -> None:
        """Take in what the programs have told, and what of it concerns ends that wait."""
        records = self._source.read()
        deaths = records["state"] != 0
        if deaths.all():
            return self._waiting.add(records)
        self._waiting.add(records[deaths])
        notes = records[~deaths]  # each has a larger number than the one before
        return self._waiting.note(dict(zip(notes["cookie"].tolist(), notes["afterwards"].tolist(), strict=True)))

    def _with_router(self, rows: Column, records: Column) -> Column:
        """Fill in who said that packets do not arrive, where TCP has taken that for true and nothing came since.

        TCP takes no error about a probe: that repeats the last number that the peer has acknowledged.
        """
        by_tcp = rows["soft_error"] != 0
        about_probes = (rows["error"] == errno.ETIMEDOUT) & (rows["probes"] != 0)
        meant = (by_tcp | about_probes) & (rows["netns"] == self._netns)
        meant &= np.isin(rows["local_port"], self._errors.local_ports)
        for row in np.flatnonzero(meant).tolist():
            first = int(records["first_unacked"][row])
            probe = Unacked((first - 1) % NUMBERS, 0)
            self._errors.fill_in(rows[row], Unacked(first, int(rows["unacked"][row])) if by_tcp[row] else probe)
        return rows
