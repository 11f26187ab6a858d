"""Which process holds a socket, and under which descriptor.

The kernel knows no way from a socket to its holders. Reading every process's descriptors is far
dearer than the netlink dump itself, so it is done only for the sockets that are asked for, in one
pass for all of them, and what was found is remembered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from keepaliveD.errors import NoInput, NotPermitted

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
        found = {inode: holder for inode in wanted if (holder := self._known.get(inode)) and self._holds(holder, inode)}
        self._seek(wanted, sorted(likely), found)
        if len(found) < len(wanted):
            self._seek(wanted, sorted(psutil.pids()), found)
        if len(self._known) + len(found) > MOST:
            self._known.clear()
        self._known |= found
        return found

    def held_by(self, pid: int) -> frozenset[int]:
        """Inodes of the sockets that a process holds; remembered, too. Raises NoInput, NotPermitted."""
        try:
            os.listdir(f"{self._root}/proc/{pid}/fd")
        except PermissionError as error:
            raise NotPermitted(f"process {pid}: its descriptors cannot be seen; run as root") from error
        except OSError as error:
            raise NoInput(f"process {pid}: there is none") from error
        held = {int(link[8:-1]): Holder(pid, fd) for fd, link in self._links(pid) if link.startswith("socket:[")}
        self._known |= held
        return frozenset(held)

    def _seek(self, wanted: set[int], pids: Iterable[int], found: dict[int, Holder]) -> None:
        """Add those among the descriptors of these processes."""
        links = {f"socket:[{inode}]": inode for inode in wanted - found.keys()}
        left = len(links)
        for pid in pids:
            if not left:
                return
            for fd, link in self._links(pid):
                if (inode := links.get(link)) and inode not in found:
                    found[inode] = Holder(pid, fd)
                    left -= 1

    def _links(self, pid: int) -> Iterator[tuple[int, str]]:
        directory = f"{self._root}/proc/{pid}/fd"
        try:
            entries = os.listdir(directory)
        except PermissionError:
            self.barred = True
            return
        except OSError:
            return  # ended meanwhile
        for entry in entries:
            try:
                yield int(entry), os.readlink(f"{directory}/{entry}")
            except PermissionError:
                self.barred = True
                return
            except OSError:
                continue  # closed meanwhile

    def _holds(self, holder: Holder, inode: int) -> bool:
        try:
            return os.readlink(f"{self._root}/proc/{holder.pid}/fd/{holder.fd}") == f"socket:[{inode}]"
        except OSError:
            return False
