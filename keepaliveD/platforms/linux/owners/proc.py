"""Who holds a socket: the process by /proc/PID/fd; its unit and container by the socket's cgroup."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import Refusal
from keepaliveD.model.text import decoded
from keepaliveD.platforms.linux.owners.cgroups import Cgroup, Cgroups
from keepaliveD.platforms.linux.owners.holders import Holders, Likely


class ProcOwners:
    """Finds owners below `root`; `holders` keeps what was found for the armer."""

    def __init__(self, root: Path, holders: Holders) -> None:
        self._root = root
        self._holders = holders
        self._cgroups = Cgroups(root)

    def find(self, inodes: Sequence[int], cgroups: Sequence[int]) -> list[Owner]:
        """Return the owner of each socket, by its inode and its cgroup, as far as this process may look."""
        known = self._cgroups.of(cgroups)
        holders = self._holders.find(set(inodes), _likely(inodes, [known[cgroup] for cgroup in cgroups]))
        names = {pid: self._process_name(pid) for pid in {holder.pid for holder in holders.values()}}
        sockets = list(zip(inodes, cgroups, strict=True))
        owners = {
            (inode, cgroup): _owner(holders[inode].pid if inode in holders else 0, names, known[cgroup])
            for inode, cgroup in set(sockets)
        }
        return [owners[socket] for socket in sockets]

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        """Return the inodes of the sockets that each process has open, or NoInput, NoAnswer or NotPermitted."""
        return self._holders.held_by(pids)

    def _process_name(self, pid: int) -> str:
        """Return the kernel's name of a process: 15 bytes at most. A command line may be as long as memory.

        To read it takes no lock, so a process that hangs has a name as well.
        """
        try:
            return decoded((self._root / f"proc/{pid}/comm").read_bytes().removesuffix(b"\n"))
        except OSError:
            return ""


def _likely(inodes: Sequence[int], cgroups: Sequence[Cgroup]) -> list[Likely]:
    """Return by unit or container the processes in the cgroups of these sockets."""
    sockets: dict[str, set[int]] = defaultdict(set)
    paths: dict[str, set[str]] = defaultdict(set)
    for inode, cgroup in zip(inodes, cgroups, strict=True):
        if cgroup.path:
            unit = cgroup.unit or cgroup.container or cgroup.path
            sockets[unit].add(inode)
            paths[unit].add(cgroup.path)
    return [
        Likely(unit, its, {pid for path in paths[unit] for pid in _processes(path)}) for unit, its in sockets.items()
    ]


def _owner(pid: int, names: dict[int, str], cgroup: Cgroup) -> Owner:
    return Owner(pid, names.get(pid, ""), cgroup.unit, cgroup.container)


def _processes(cgroup: str) -> list[int]:
    try:
        with open(f"{cgroup}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]
    except (OSError, ValueError):
        return []  # gone meanwhile, or threaded
