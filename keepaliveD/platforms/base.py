"""What a platform offers to those above; what it lacks raises Unsupported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from keepaliveD.model.actions import Counted
from keepaliveD.model.connections import Owner
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Column, SocketTable
from keepaliveD.policy.connect import Plan
from keepaliveD.policy.strictness import Roles


class Tuner(Protocol):
    """The system's keepalive settings, in the kernel's own numbers and names."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What must be the same for recorded settings to be those of this system: boot, namespace."""

    @property
    def ranges(self) -> Mapping[str, range]:
        """By setting: all values that may be found or written, which a record may contain."""

    @property
    def roles(self) -> Roles:
        """Which setting is the idle time, the interval, the number of probes."""

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The settings that bring about this keepalive.

        Raises ConfigError where this kernel cannot hold it; Unsupported, NotPermitted or KernelError
        where the kernel has to be asked for its units or limits and does not tell.
        """

    def read(self) -> Mapping[str, int]:
        """What stands there now. Raises Unsupported, KernelError."""

    def exchange(self, key: str, expected: int, value: int) -> int:
        """Write `value` where `expected` stands, and nothing where not. Return what stood there before.

        Raises Unsupported, NotPermitted, KernelError; also where the value was written and does not stand.
        """


class Watcher(Protocol):
    """The TCP sockets of the host."""

    @property
    def engine_description(self) -> str:
        """How they are read, and what hinders a better way; it may change from one scan to the next."""

    def scan(self, now: float) -> SocketTable:
        """All sockets that can be seen. Raises KernelError, NotPermitted, Unsupported."""

    def close(self) -> None:
        """Let go of what it holds."""


class Owners(Protocol):
    """Who holds a socket."""

    def find(self, inodes: Sequence[int], cgroups: Sequence[int]) -> list[Owner]:
        """Return the owner of each socket, by its inode and its cgroup, as far as this process may look."""

    def held_by(self, pid: int) -> frozenset[int]:
        """Inodes of the sockets that a process holds. Raises NoInput, NotPermitted."""


class Armer(Protocol):
    """Keepalive in the open sockets of other programs. It decides nothing; its columns are those of model.arming.

    Both raise Unsupported, NotPermitted where it cannot be done here at all.
    """

    def read(self, targets: Column, *, closing: bool) -> Column:
        """Return what stands in these sockets: in the first of them, if they are too many to be read at once.

        `closing`: also in connections that are half closed.
        """

    def change(self, changes: Column, *, closing: bool) -> Column:
        """Set each socket in which there still stands what is expected, and return what came of it.

        There are no more of them than the last read() answered for.
        """

    def close(self) -> None:
        """Let go of what it holds."""


class AtConnect(Protocol):
    """Arms new connections while they are established, before their programs can send a byte."""

    def begin(self, *, engine: str, plan: Plan, survive: bool) -> str:
        """Arm them by this plan from now on, in place of the one before.

        `survive`: also after our end; why that is not possible, or nothing. Where it cannot begin, the one
        before goes on. Raises Unsupported, NotPermitted.
        """

    def refresh(self) -> list[Counted]:
        """Learn which units and containers exist now, and return how many sockets were armed since the last time.

        Connections of other units and containers wait for the next scan. Raises KernelError.
        """

    def armed(self) -> Mapping[int, Armed]:
        """How living sockets were armed, by cookie, by us or by an earlier daemon. Raises Refusal."""

    def forget(self) -> None:
        """Drop what armed() has returned, which is recorded elsewhere from now on. Raises Refusal."""

    def pinned(self) -> str:
        """Where a program is that outlives its daemon, or nothing. Raises NotPermitted where that cannot be seen."""

    def unpin(self) -> None:
        """End a program that is pinned there, unless it is that of another daemon. Raises NotPermitted."""

    def close(self) -> None:
        """Stop, unless it is to outlive us."""


class Watching(NamedTuple):
    """How sockets are to be read.

    `with_interfaces` fills the column `interface`, which costs a look at the addresses.
    Sockets whose peers are in `ignore` may be left out.
    """

    engine: str = "auto"
    all_namespaces: bool = True
    with_interfaces: bool = False
    ignore: Sequence[IPNetwork] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """What touches sockets and processes, opened together for one configuration."""

    watcher: Watcher
    owners: Owners
    armer: Armer

    def close(self) -> None:
        """Let go of what it holds."""
        self.watcher.close()
        self.armer.close()


# Opens all of it, or nothing. Raises Unsupported, NotPermitted where that engine cannot work here; "auto" always can.
Opener = Callable[[Watching], Session]


@dataclass(frozen=True, slots=True)
class Platform:
    """One operating system's adapters."""

    name: str
    tuner: Tuner
    at_connect: AtConnect
    open: Opener
    notes: tuple[str, ...] = ()  # what this system cannot do or does differently, for people
    unreached: Callable[[], Sequence[str]] = tuple  # listeners that keep to old settings; raises Refusal
