"""Who holds a socket: the process by /proc/PID/fd; its unit and container by the socket's cgroup."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from keepaliveD.model.connections import Owner
from keepaliveD.model.text import printable
from keepaliveD.platforms.linux.owners import processes
from keepaliveD.platforms.linux.owners.holders import Holders

CGROUP2 = ("sys/fs/cgroup", "sys/fs/cgroup/unified")  # alone, or beside version 1
UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")  # units that hold processes, systemd.unit(5)
CONTAINERS = (  # how those who run containers name their cgroups
    re.compile(r"/(?:docker|libpod|crio|cri-containerd|nerdctl)-([0-9a-f]{64})(?:\.scope)?(?=/|$)"),
    re.compile(r"/(?:docker|kubepods[^/]*/.*)/([0-9a-f]{64})(?=/|$)"),  # cgroupfs driver
    re.compile(r"/machine-([^/]+)\.scope|/systemd-nspawn@([^/]+)\.service"),
    re.compile(r"/lxc(?:\.payload)?/([^/]+)|/lxc\.payload\.([^/]+)"),
)
HYPHEN = r"\x2d"  # in a scope's name; a machine's has no other character that systemd escapes


class ProcOwners:
    """Looks them up below `root`; `holders` remembers for others what was found."""

    def __init__(self, root: Path, holders: Holders) -> None:
        self._root = root
        self._holders = holders
        self._cgroups: dict[int, str] = {}

    def find(self, inodes: Sequence[int], cgroups: Sequence[int]) -> list[Owner]:
        """Return the owner of each socket, by its inode and its cgroup, as far as this process may look."""
        self._learn(set(cgroups))
        paths = {self._cgroups[cgroup] for cgroup in set(cgroups)} - {""}
        likely = {pid for path in paths for pid in _processes(path)}
        holders = self._holders.find(set(inodes), likely)
        names = processes.ask({holder.pid for holder in holders.values()}, self._process_name)
        sockets = list(zip(inodes, cgroups, strict=True))
        owners = {
            (inode, cgroup): _owner(holders[inode].pid if inode in holders else 0, names, self._cgroups[cgroup])
            for inode, cgroup in set(sockets)
        }
        return [owners[socket] for socket in sockets]

    def held_by(self, pid: int) -> frozenset[int]:
        """Inodes of the sockets that a process holds. Raises NoInput, NotPermitted."""
        return self._holders.held_by(pid)

    def of_cgroups(self) -> dict[int, Owner]:
        """Unit and container of every cgroup v2 that there is, by its id."""
        return {inode: _owner(0, {}, path) for inode, path in self._tree()}

    def _process_name(self, pid: int) -> str:
        """What the kernel calls it: 15 bytes at most. A command line may be as long as memory, and say anything."""
        try:
            return printable(os.fsdecode((self._root / f"proc/{pid}/comm").read_bytes().removesuffix(b"\n")))
        except OSError:
            return ""

    def _learn(self, cgroups: set[int]) -> None:
        """Walk the cgroup tree if one of these is new."""
        if not cgroups <= self._cgroups.keys():
            self._cgroups = dict.fromkeys(cgroups, "") | dict(self._tree())

    def _tree(self) -> Iterator[tuple[int, str]]:
        """Every cgroup, by its id, which is its directory's inode."""
        for top in CGROUP2:
            if (self._root / top / "cgroup.controllers").exists():
                yield from _directories(self._root / top)


def _owner(pid: int, names: dict[int, str], cgroup: str) -> Owner:
    return Owner(pid, names.get(pid, ""), unit_of(cgroup), container_of(cgroup))


def _processes(cgroup: str) -> list[int]:
    try:
        with open(f"{cgroup}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]
    except (OSError, ValueError):
        return []  # gone meanwhile, or threaded


def _directories(top: Path) -> Iterator[tuple[int, str]]:
    """Every directory there and below, by its inode."""
    for path, _, _ in os.walk(top):
        try:
            yield os.stat(path).st_ino, path
        except OSError:
            continue  # ended meanwhile


def unit_of(cgroup: str) -> str:
    """The systemd unit that a cgroup path belongs to: the innermost that is one."""
    parts = [part for part in cgroup.split("/") if part.endswith(UNIT_SUFFIXES)]
    return printable(parts[-1]) if parts else ""


def container_of(cgroup: str) -> str:
    """The name or id of the container that a cgroup path belongs to: the innermost that is one."""
    found = [match for pattern in CONTAINERS for match in pattern.finditer(cgroup)]
    if not found:
        return ""
    innermost = max(found, key=lambda match: match.end())
    return printable(next(name for name in innermost.groups() if name).replace(HYPHEN, "-"))
