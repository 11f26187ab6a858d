"""Scan every TCP socket of the host: by an engine in all of its network namespaces."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from keepaliveD.model.errors import KernelError, Refusal
from keepaliveD.model.sockets import OWN, Column, Sockets, SocketTable, Unwatched
from keepaliveD.platforms import touching
from keepaliveD.platforms.linux import namespaces
from keepaliveD.platforms.linux.bpf.conntrack import BpfConntrack
from keepaliveD.platforms.linux.reading import interfaces
from keepaliveD.platforms.linux.reading.conntrack import Conntrack, nothing_faster
from keepaliveD.platforms.linux.reading.engine import Engine, Gaps, Silent
from keepaliveD.platforms.linux.reading.netlink import Netlink
from keepaliveD.platforms.touching import Kind

DESCRIPTORS = 3  # that the dearest engine keeps open in a network namespace
RESERVE = 512  # for everything else; at most half of what is allowed


class SocketWatcher:
    """Scans all namespaces by one engine, and closes the engine at last.

    `reason` is why the engine is not a better one; `spare` takes over if the engine fails. What is known of the
    sockets stays, because every engine reads the same cookies.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        engine: Engine | None = None,
        reason: str = "",
        *,
        spare: Engine | None = None,
        all_namespaces: bool = True,
        with_interfaces: bool = False,
        load_conntrack: Callable[[], BpfConntrack | None] = nothing_faster,
    ) -> None:
        self._root = root
        self._engine = engine or Netlink()
        self._reason = reason
        self._spare = spare
        self._all_namespaces = all_namespaces
        self._with_interfaces = with_interfaces
        self._paths = namespaces.only_here(root)
        (self._own,) = self._paths
        touching.be_at_home(self._own)
        self._entered = {self._own}
        self._engine.enter(self._own)
        self._unwatched = Unwatched()
        self._failed: set[int] = set()  # namespaces that the last scan could not read
        self._expected = 0
        self._conntrack = Conntrack(self._own, load_conntrack)
        self._interfaces = interfaces.KnownInterfaces(self._own)

    @property
    def engine_description(self) -> str:
        """Return the engine that reads the sockets, and why it is not a better one."""
        return f"{self._engine.name} engine" + (f" ({self._reason})" if self._reason else "")

    def scan(self, now: float) -> SocketTable:
        """Return all sockets that can be seen; `now` is the time. Raises KernelError."""
        try:
            return self._scan(now)
        except KernelError as error:
            if self._spare is None or self._spare.name == self._engine.name:
                raise
            self._take(self._spare, str(error))
            return self._scan(now)

    def ask(self, flows: Column) -> Column:
        """Return what this host's own firewall remembers of each connection."""
        return self._conntrack.ask(flows, self._paths)

    def _take(self, engine: Engine, reason: str) -> None:
        self.close()
        self._engine, self._reason = engine, reason
        self._entered = {self._own}
        engine.enter(self._own)

    def _scan(self, now: float) -> SocketTable:
        self._unwatched = Unwatched()
        if self._all_namespaces:
            self._follow_namespaces()
        sockets = Sockets(capacity=self._expected)
        gaps = self._engine.read(sockets)
        names = self._number_interfaces(sockets, gaps)
        for netns, error in gaps.items():
            if isinstance(error, Silent):
                self._unwatched = self._unwatched._replace(silent=(*self._unwatched.silent, netns))
            elif error and netns == self._own:
                raise error
            elif error:
                self._leave(netns)  # entered anew at the next scan
        self._expected = len(sockets)
        unwatched = self._unwatched._replace(
            crowded=tuple(sorted(self._engine.crowded)), incomplete=tuple(sorted(self._incomplete(gaps)))
        )
        read = self._entered - gaps.keys()
        knows_all = self._all_namespaces and not unwatched.hidden
        return SocketTable(
            sockets,
            now,
            not gaps,
            tuple(names),
            len(self._entered),
            unwatched,
            self.engine_description,
            firewall_timeout=self._conntrack.timeout(),
            tracked=self._conntrack.tracked(),
            netns=self._own,
            changed_idle_time=tuple(self._engine.changed_idle_time),
            read=tuple(sorted(read)),
            unread=tuple(sorted(self._paths.keys() - read)) if knows_all else None,
        )

    def _incomplete(self, gaps: Gaps) -> set[int]:
        """Return the namespaces of which a part is missing, or that failed twice: one may just have ended."""
        before, self._failed = (
            self._failed,
            {netns for netns, error in gaps.items() if error and not isinstance(error, Silent)},
        )
        part = {netns for netns, error in gaps.items() if error is None} - self._engine.crowded
        return {OWN if netns == self._own else netns for netns in part | (self._failed & before)}

    def close(self) -> None:
        """Leave every network namespace."""
        self._engine.close()
        self._conntrack.end()

    def _number_interfaces(self, sockets: Sockets, gaps: Gaps) -> dict[str, int]:
        """Put our numbers in place of the kernel's indices; leave out a namespace whose interfaces cannot be read."""
        names = {"": 0}
        if not self._with_interfaces:
            sockets["interface"][:] = 0
            return names
        for netns in np.unique(sockets["netns"]).tolist():
            its = sockets["netns"] == netns
            try:
                sockets["interface"][its] = self._interfaces_of(netns).resolve(sockets.select(its), names)
            except KernelError as error:
                sockets.retain(~its)
                gaps[netns] = error
        return names

    def _interfaces_of(self, netns: int) -> interfaces.Interfaces:
        """Return the interfaces of a network namespace, which is entered unless it is ours. Raises KernelError."""
        return self._interfaces.of(netns, interfaces.read if netns == self._own else partial(self._read_in, netns))

    def _read_in(self, netns: int) -> interfaces.Interfaces:
        try:
            touching.now(Kind.NAMESPACE, netns)
            return namespaces.inside(self._paths[netns], netns, interfaces.read_few)
        except OSError as error:
            raise KernelError(f"interfaces: {error.strerror}") from error

    def _follow_namespaces(self) -> None:
        """Enter new network namespaces, those of our own user first; leave those that only our engine keeps alive."""
        namespaces.begin_scan()
        self._paths, hidden = namespaces.survey(self._root)
        for gone in self._entered - self._paths.keys():
            self._leave(gone)
        self._interfaces.keep(self._entered)
        forbidden, silent = 0, []
        wanted = self._paths.keys() - self._entered
        room = max(0, _most_namespaces() - len(self._entered))
        for new in sorted(wanted, key=lambda netns: (not namespaces.is_ours(self._paths[netns]), netns))[:room]:
            try:
                touching.now(Kind.NAMESPACE, new)
                namespaces.inside(self._paths[new], new, partial(self._engine.enter, new))
            except FileNotFoundError:
                continue  # ended meanwhile
            except (touching.MustNotTouch, TimeoutError):
                silent.append(new)
            except (OSError, Refusal):
                forbidden += 1
            else:
                self._entered.add(new)
        self._unwatched = Unwatched(forbidden, max(0, len(wanted) - room), hidden, tuple(silent))

    def _leave(self, netns: int) -> None:
        self._entered.remove(netns)
        self._engine.leave(netns)
        self._conntrack.leave(netns)


def _most_namespaces() -> int:
    """Return how many network namespaces the limit of open files allows."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (limit - min(RESERVE, limit // 2)) // DESCRIPTORS
