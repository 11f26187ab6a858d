"""Which systemd unit and which container a cgroup belongs to.

Who may make cgroups below his own may give them any name, and make very many, very deep ones. So the outermost
cgroup counts that systemd or the manager of containers has made, and what is below that belongs to the same.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from keepaliveD.model.text import printable

CGROUP2 = ("sys/fs/cgroup", "sys/fs/cgroup/unified")  # where version 2 is mounted: alone, or beside version 1
MOST_BELOW = 1000  # cgroups of one unit or container that are known
UNIT_SUFFIXES = (".service", ".scope", ".socket", ".mount", ".swap")  # units that hold processes, systemd.unit(5)
IN_SLICES = re.compile(r"(/[^/]+\.slice)*/[^/]+")
ID = "[0-9a-f]{64}"
CONTAINERS = (  # how those who run containers name their cgroups
    re.compile(rf".*/(?:docker|libpod|crio|cri-containerd|nerdctl)-({ID})(?:\.scope)?"),
    re.compile(rf"/(?:docker|kubepods[^/]*/.*)/({ID})"),  # cgroupfs driver
    re.compile(r".*/machine-([^/]+)\.scope|.*/systemd-nspawn@([^/]+)\.service"),
    re.compile(r".*/lxc(?:\.payload)?/([^/]+)|.*/lxc\.payload\.([^/]+)"),
)
HYPHEN = r"\x2d"  # in a scope's name; a machine's has no other character that systemd escapes


class Cgroup(NamedTuple):
    """A cgroup's directory, its unit and container. `whole`: all below belongs to the same unit and container."""

    path: str
    unit: str = ""
    container: str = ""
    whole: bool = False


class Cgroups:
    """The cgroups of version 2 below `root`, by their ids, which are the inodes of their directories."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[int, Cgroup] = {}

    def outline(self) -> dict[int, Cgroup]:
        """Return all cgroups but those below one that belongs to a unit or container as a whole."""
        return {inode: cgroup for top in self._tops() for inode, cgroup in _below(top, Cgroup(top))}

    def of(self, wanted: Iterable[int]) -> dict[int, Cgroup]:
        """Return these, with an empty path where there is no such cgroup, or too many are beside it."""
        wanted = set(wanted)
        if not wanted <= self._known.keys():
            known = outline = self.outline()
            if not wanted <= outline.keys():
                known = outline | dict(_inside(outline.values()))
            self._known = dict.fromkeys(wanted, Cgroup("")) | known
        return {inode: self._known[inode] for inode in wanted}

    def _tops(self) -> Iterator[str]:
        for top in CGROUP2:
            if (self._root / top / "cgroup.controllers").exists():
                yield str(self._root / top)


def identify(top: str, path: str) -> Cgroup:
    """Return the cgroup at `path`, of which those above belong to no unit and no container."""
    cgroup = path.removeprefix(top)
    name = cgroup.rpartition("/")[2]
    unit = name if name.endswith(UNIT_SUFFIXES) and IN_SLICES.fullmatch(cgroup) else ""
    matches = (pattern.fullmatch(cgroup) for pattern in CONTAINERS)
    container = next((next(filter(None, match.groups())) for match in matches if match), "")
    return Cgroup(path, printable(unit), printable(container.replace(HYPHEN, "-")), bool(unit or container))


def _inside(cgroups: Iterable[Cgroup]) -> Iterator[tuple[int, Cgroup]]:
    """Yield the cgroups below each of these, as far as there are not too many."""
    for cgroup in cgroups:
        if cgroup.whole:
            yield from islice(_below("", cgroup), 1, MOST_BELOW)


def _below(top: str, first: Cgroup) -> Iterator[tuple[int, Cgroup]]:
    """Yield this cgroup and those below it, less deep ones first; of one that is whole, only where it is the first."""
    left = deque([first])
    while left:
        cgroup = left.popleft()
        try:
            yield os.stat(cgroup.path).st_ino, cgroup
            if cgroup.whole and not first.whole:
                continue
            with os.scandir(cgroup.path) as entries:
                paths = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # it ended meanwhile, or its path is too long
        left.extend(first._replace(path=path) if first.whole else identify(top, path) for path in paths)
