"""Who holds a socket: the process by /proc/PID/fd, the unit by its cgroup.

Reading every process's descriptors is far dearer than the netlink dump itself, so it is done only
for the connections that are spoken of, in one pass for all of them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from keepaliveD.model import Connection, Owner
from keepaliveD.text import printable

CGROUP2 = ("sys/fs/cgroup", "sys/fs/cgroup/unified")  # alone, or beside version 1
UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")  # units that hold processes, systemd.unit(5)


class ProcOwners:
    """Looks them up below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._units: dict[int, str] = {}

    def name(self, connections: Iterable[Connection]) -> tuple[Connection, ...]:
        """The same connections with their owners, as far as this process may look."""
        connections = tuple(connections)
        holders = self._holders({connection.inode for connection in connections})
        processes = {pid: _process_name(pid) for pid in set(holders.values())}
        self._learn_units({connection.cgroup for connection in connections})
        return tuple(
            dataclasses.replace(
                connection,
                owner=Owner(
                    pid=(pid := holders.get(connection.inode, 0)),
                    process=processes.get(pid, ""),
                    unit=self._units.get(connection.cgroup, ""),
                ),
            )
            for connection in connections
        )

    def _holders(self, inodes: set[int]) -> dict[int, int]:
        """The process that holds each socket inode; of several, the one with the lowest number."""
        wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}  # an orphan has inode 0
        found: dict[int, int] = {}
        for pid in sorted(psutil.pids()):
            if len(found) == len(wanted):
                break
            for link in _links(f"{self._root}/proc/{pid}/fd"):
                if link in wanted:
                    found.setdefault(wanted[link], pid)
        return found

    def _learn_units(self, cgroups: set[int]) -> None:
        """Walk the cgroup tree if one of these is new; its directories' inodes are their ids."""
        if cgroups <= self._units.keys():
            return
        self._units = dict.fromkeys(cgroups, "")
        for top in CGROUP2:
            if (self._root / top / "cgroup.controllers").exists():
                self._units |= {inode: unit_of(path) for path, inode in _directories(self._root / top)}


def _directories(top: Path) -> Iterator[tuple[str, int]]:
    """Every directory below, with its inode."""
    for path, _, _ in os.walk(top):
        try:
            yield path, os.stat(path).st_ino
        except OSError:
            continue  # ended meanwhile


def unit_of(cgroup: str) -> str:
    """The systemd unit that a cgroup path belongs to: the innermost that is one."""
    parts = [part for part in cgroup.split("/") if part.endswith(UNIT_SUFFIXES)]
    return printable(parts[-1]) if parts else ""


def _links(directory: str) -> Iterator[str]:
    try:
        entries = os.listdir(directory)
    except OSError:
        return  # ended meanwhile, or somebody else's
    for entry in entries:
        try:
            yield os.readlink(f"{directory}/{entry}")
        except OSError:
            continue  # closed meanwhile


def _process_name(pid: int) -> str:
    try:
        return printable(psutil.Process(pid).name())
    except psutil.Error:
        return ""
