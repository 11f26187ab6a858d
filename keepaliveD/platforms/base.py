"""What a platform offers to those above; what it lacks raises Unsupported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from keepaliveD.model import Connection, Keepalive, SocketTable


class Tuner(Protocol):
    """The system's keepalive settings, in the kernel's own numbers and names."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What must be the same for recorded settings to be those of this system: boot, namespace."""

    def names(self, keepalive: Keepalive) -> Mapping[str, int]:
        """The settings that bring about this keepalive.

        Raises ConfigError where this kernel cannot hold it; Unsupported, NotPermitted or KernelError
        where the kernel has to be asked for its units or limits and does not tell.
        """

    def read(self) -> Mapping[str, int]:
        """What stands there now. Raises Unsupported, KernelError."""

    def write(self, values: Mapping[str, int]) -> None:
        """Write all of them and read them back, or leave all as they were.

        Raises NotPermitted, KernelError.
        """


class Watcher(Protocol):
    """The TCP sockets of the host."""

    def snapshot(self, now: float) -> SocketTable:
        """All sockets that can be seen. Raises KernelError, NotPermitted, Unsupported."""

    def close(self) -> None:
        """Let go of what it holds."""


class Owners(Protocol):
    """Who holds a socket."""

    def name(self, connections: Iterable[Connection]) -> tuple[Connection, ...]:
        """The same connections with their owners, as far as this process may look."""


@dataclass(frozen=True, slots=True)
class Platform:
    """One operating system's adapters."""

    name: str
    tuner: Tuner
    owners: Owners
    watcher: WatcherFactory
    notes: tuple[str, ...] = ()  # what this system cannot do or does differently, for people


class WatcherFactory(Protocol):
    """Makes the platform's watcher."""

    def __call__(self, *, all_namespaces: bool, with_interfaces: bool) -> Watcher:
        """`with_interfaces` fills the column `interface`, which costs a look at the addresses."""
