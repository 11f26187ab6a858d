"""What a platform offers. Whatever a platform lacks raises Unsupported."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple, Protocol

from keepaliveD.model.causes import CLOSED_IDLE_AFTER
from keepaliveD.model.connections import Owner
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.deaths import Deaths
from keepaliveD.model.errors import Refusal, Unsupported
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.reports import Counted
from keepaliveD.model.results import Armed
from keepaliveD.model.routes import Route
from keepaliveD.model.rules import Roles, Watching
from keepaliveD.model.sockets import Column, SocketTable
from keepaliveD.policy.arming.connect import ConnectPlan


class Tuner(Protocol):
    """The system's keepalive settings, in the kernel's own numbers and names."""

    @property
    def identity(self) -> Mapping[str, str]:
        """Return what must be equal for recorded settings to be those of this system: boot, namespace."""

    @property
    def ranges(self) -> Mapping[str, range]:
        """Return for each setting the values that may be found or written, which a record may contain."""

    @property
    def roles(self) -> Roles:
        """Return which setting is the idle time, the interval, the number of probes."""

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """Return the settings that bring about this keepalive.

        Raises ConfigError if this kernel cannot hold it; Unsupported, NotPermitted or KernelError
        if the kernel must be asked for its units or limits and does not answer.
        """

    def read(self) -> Mapping[str, int]:
        """Return the settings that stand now. Raises Unsupported, KernelError."""

    def exchange(self, key: str, expected: int, value: int) -> int:
        """Write `value` if `expected` stands. Return the value that stood before.

        Raises Unsupported, NotPermitted, KernelError; also if the value was written and does not stand.
        """


class Watcher(Protocol):
    """Scans the TCP sockets of the host."""

    @property
    def engine_description(self) -> str:
        """Describe the engine, and what hinders a better one; this may change from one scan to the next."""

    def scan(self, now: float) -> SocketTable:
        """Return all sockets that can be seen. Raises KernelError, NotPermitted, Unsupported."""

    def close(self) -> None:
        """Close everything that is open."""


class Owners(Protocol):
    """Finds the owners of sockets."""

    def find(self, inodes: Sequence[int], cgroups: Sequence[int]) -> list[Owner]:
        """Return the owner of each socket, by its inode and its cgroup, as far as this process may look."""

    def held_by(self, pids: Collection[int]) -> dict[int, frozenset[int] | Refusal]:
        """Return the inodes of the sockets that each process holds, or NoInput, NoAnswer or NotPermitted."""


class Armer(Protocol):
    """Reads and sets keepalive in the open sockets of other programs. It decides nothing; model.arming has its columns.

    read() and change() raise Unsupported or NotPermitted if that is impossible here.
    """

    @property
    def by_cookie(self) -> bool:
        """Return whether it finds sockets by their cookies alone, so that nobody needs to look for their owners."""

    def read(self, targets: Column, *, closing: bool) -> Column:
        """Return what stands in these sockets: in the first of them, if they are too many to be read at once.

        `closing`: also in connections that are half closed.
        """

    def change(self, changes: Column, *, closing: bool) -> Column:
        """Set each socket in which the expected settings still stand, and return the result of each.

        There are no more changes than the last read() has returned rows.
        """

    def close(self) -> None:
        """Close everything that is open."""


class Firewall(Protocol):
    """This host's own firewall, which may forget connections; model.firewall has its columns."""

    def ask(self, flows: Column) -> Column:
        """Return what it remembers of each connection. Raises Unsupported."""


class NoFirewall:
    """Where it cannot be asked."""

    def ask(self, flows: Column) -> Column:
        """Raise Unsupported."""
        del flows
        raise Unsupported("this host's own firewall cannot be asked")


class Routes(Protocol):
    """Finds by which interface and next hop this host sends packets to a peer, in its own network namespace."""

    def find(self, ends: Column) -> list[Route | None]:
        """Return the route of the first of these (policy.routes.ENDS), as many as there is time for; None without one.

        Raises Unsupported, KernelError.
        """


class NoRoutes:
    """Where they cannot be asked for."""

    def find(self, ends: Column) -> list[Route | None]:
        """Raise Unsupported."""
        del ends
        raise Unsupported("routes cannot be asked for")


class Unpinned(NamedTuple):
    """Why the program ends with the daemon though it should not, and why a kill loses its records; "" where neither."""

    program: str = ""
    records: str = ""


class AtConnect(Protocol):
    """Arms at connect: while a connection is established, before its program can send a byte."""

    def begin(self, *, engine: str, plan: ConnectPlan, survive: bool) -> Unpinned:
        """Arm at connect by this plan from now on, in place of the plan before.

        `survive`: also after our end. Return what does not outlive us although it should. If the new plan cannot
        begin, the plan before stays.
        Raises Unsupported, NotPermitted.
        """

    def refresh(self) -> list[Counted]:
        """Learn which units and containers exist now, and return how many sockets were armed since the last time.

        Connections of other units and containers wait for the next scan. Raises KernelError.
        """

    def tend(self) -> Unpinned | None:
        """Have outlive us again what somebody has removed meanwhile, and return what cannot; None where nobody has."""

    def armed(self) -> Mapping[int, Armed]:
        """Return by cookie how open sockets were armed at connect, by us or an earlier daemon. Raises Refusal."""

    def shared(self) -> bool:
        """Return whether armed() also returns what a daemon that runs now arms in another process."""

    def forget(self) -> None:
        """Forget what armed() has returned: the caller has recorded it. Raises Refusal."""

    def pinned(self) -> str:
        """Return the pin of a program that outlives its daemon, or "". Raises NotPermitted if that cannot be seen."""

    def unpin(self) -> None:
        """Remove the pin of a program, unless another daemon has pinned it. Raises NotPermitted."""

    def close(self) -> None:
        """Stop arming at connect, unless it must survive us."""


class DeathReader(Protocol):
    """Reads how connections end. It never blocks: it reads what the kernel has already written."""

    hindered: str  # what cannot be seen, ": " and why; or ""

    def fileno(self) -> int:
        """Return a descriptor that is readable when connections have ended."""

    def due(self) -> float | None:
        """Return the instant at which take() will return the next end; None if nothing waits."""

    def take(self, now: float, *, early: bool = False) -> Deaths:
        """Return the connections that ended a second ago or earlier, and what was counted since the last call.

        With `early`, return those that ended later, too. Call it when the descriptor is readable, and when it is due.
        Raises nothing.
        """

    def close(self) -> None:
        """Stop seeing ends."""


class DeathWatch(NamedTuple):
    """Which ends are to be seen, and how.

    `engine` is as in Watching.
    `packets` reads the headers of each received TCP packet, which costs most, and tells most about a reset.
    `idle` is the seconds of silence after which an ordinary close by the peer is returned, too; 0 for never.
    `everywhere` sees ends in all network namespaces, as far as the engine can, and not in the daemon's own alone.
    """

    engine: str = "auto"
    packets: bool = True
    idle: float = CLOSED_IDLE_AFTER
    everywhere: bool = True


def counts_no_probes() -> None:
    """Return that the system does not count its keepalive probes."""


def sees_no_deaths(_: DeathWatch) -> DeathReader:
    """Refuse, where the system does not show how connections end."""
    raise Unsupported("how connections end cannot be seen on this system")


@dataclass(frozen=True, slots=True)
class Session:
    """Everything that touches sockets and processes, opened together for one configuration."""

    watcher: Watcher
    owners: Owners
    armer: Armer
    firewall: Firewall = field(default_factory=NoFirewall)
    routes: Routes = field(default_factory=NoRoutes)

    def close(self) -> None:
        """Close everything that is open."""
        self.watcher.close()
        self.armer.close()


# Opens a whole session, or none. Raises Unsupported, NotPermitted if that engine cannot work here; "auto" always can.
Opener = Callable[[Watching], Session]


@dataclass(frozen=True, slots=True)
class Platform:
    """The adapters of one operating system."""

    name: str
    tuner: Tuner
    at_connect: AtConnect
    open: Opener
    notes: tuple[str, ...] = ()  # what this system cannot do or does differently, for people
    cloud: Callable[[], str] = str  # the name of the cloud that this host runs in, "" if none is known
    confine: Callable[[], object] = tuple  # keeps this process from what only workers have to do
    unreached: Callable[[], Sequence[str]] = tuple  # services that still use the old settings; raises Refusal
    watch_deaths: Callable[[DeathWatch], DeathReader] = sees_no_deaths  # raises Unsupported, NotPermitted
    probes_sent: Callable[[], int | None] = counts_no_probes  # since the boot, in this network namespace
