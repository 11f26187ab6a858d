"""Which process holds a socket, and under which descriptor.

The kernel knows no way from a socket to its holders. Reading every process's descriptors is far
dearer than the netlink dump itself, so it is done only for the sockets that are asked for, in one
pass for all of them, and what was found is remembered.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

from keepaliveD.model.errors import NoInput, NotPermitted
from keepaliveD.platforms.linux.owners import processes

MOST = 200_000  # holders remembered; then all are forgotten, some 30 MB


class Holder(NamedTuple):
    """A process, and its number for the socket."""

    pid: int
    fd: int


class Holders:
    """Looks them up below `root`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._known: dict[int, Holder] = {}
        self.barred = False  # whether the last search was kept from looking into some process

    def known(self, inode: int) -> Holder | None:
        """What was last found: it may have closed the socket since, or ended."""
        return self._known.get(inode)

    def find(self, inodes: Iterable[int], likely: Iterable[int] = ()) -> dict[int, Holder]:
        """The holder of each socket inode, as far as this process may look.

        Processes that are `likely` to hold them are looked at first, and the others only if that
        leaves any open; of several that hold one, the lowest number counts.
        """
        self.barred = False
        wanted = {inode for inode in inodes if inode}  # an orphan has inode 0
        found = self._still_held(wanted)
        self._seek(wanted, sorted(likely), found)
        if len(found) < len(wanted):
            self._seek(wanted, sorted(psutil.pids()), found)
        if len(self._known) + len(found) > MOST:
            self._known.clear()
        self._known |= found
        return found

    def held_by(self, pid: int) -> frozenset[int]:
        """Inodes of the sockets that a process holds; remembered, too. Raises NoInput, NotPermitted."""
        links = processes.ask([pid], self._links).get(pid)
        if links is None:
            raise NoInput(f"process {pid}: hangs in execve(2); end it with SIGKILL")
        if isinstance(links, PermissionError):
            raise NotPermitted(
                f"process {pid}: not permitted: run as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
            ) from links
        if isinstance(links, OSError):
            raise NoInput(f"process {pid}: does not exist") from links
        held = {int(link[8:-1]): Holder(pid, fd) for fd, link in links if link.startswith("socket:[")}
        self._known |= held
        return frozenset(held)

    def _seek(self, wanted: set[int], pids: Iterable[int], found: dict[int, Holder]) -> None:
        """Add those among the descriptors of these processes."""
        links = {f"socket:[{inode}]": inode for inode in wanted - found.keys()}

        def look(pid: int) -> None:
            its = self._links(pid) if links else []
            if isinstance(its, OSError):  # else it ended meanwhile
                self.barred = self.barred or isinstance(its, PermissionError)
                return
            for fd, link in its:
                if inode := links.pop(link, 0):
                    found[inode] = Holder(pid, fd)

        processes.ask(pids, look)

    def _links(self, pid: int) -> list[tuple[int, str]] | OSError:
        """What a process's descriptors are, or why that cannot be seen."""
        directory = f"{self._root}/proc/{pid}/fd"
        links: list[tuple[int, str]] = []
        try:
            for entry in os.listdir(directory):
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    links.append((int(entry), os.readlink(f"{directory}/{entry}")))
        except OSError as error:
            return error
        return links

    def _still_held(self, wanted: Iterable[int]) -> dict[int, Holder]:
        """Those whose holder is known, and holds them still."""
        mine: dict[int, list[tuple[int, Holder]]] = defaultdict(list)
        for inode in wanted:
            if holder := self._known.get(inode):
                mine[holder.pid].append((inode, holder))

        def held(pid: int) -> dict[int, Holder]:
            return {inode: holder for inode, holder in mine[pid] if self._holds(holder, inode)}

        return {inode: holder for its in processes.ask(mine, held).values() for inode, holder in its.items()}

    def _holds(self, holder: Holder, inode: int) -> bool:
        try:
            return os.readlink(f"{self._root}/proc/{holder.pid}/fd/{holder.fd}") == f"socket:[{inode}]"
        except OSError:
            return False
