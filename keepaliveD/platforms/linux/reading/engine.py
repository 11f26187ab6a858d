"""The contract of engines: an engine reads the TCP sockets of the network namespaces that it has entered."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Set
from typing import Protocol

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms import touching

Gaps = dict[int, KernelError | None]  # namespaces of which sockets may be missing, and why if they were not read at all


class Silent(KernelError):
    """The namespace did not answer before, and was not asked now."""


class Engine(Protocol):
    """Reads all network namespaces that it has entered at once."""

    name: str
    crowded: Set[int]  # namespaces of which the last reading left sockets out, as the next one will
    changed_idle_time: Set[int]  # whose setting has changed before it, where the engine does not read those of sockets

    def enter(self, netns: int) -> None:
        """Enter the network namespace of the calling thread, whose inode is `netns`, and keep it alive.

        Raises NotPermitted, Unsupported, OSError.
        """

    def leave(self, netns: int) -> None:
        """Leave the network namespace, so that it can end."""

    def read(self, sockets: Sockets) -> Gaps:
        """Append the sockets, with the kernel's indices as interfaces. Raises KernelError if all of them are lost."""

    def close(self) -> None:
        """Leave every network namespace."""


class Reader(Protocol):
    """Reads the one network namespace that it was made in, and keeps that alive."""

    def dump(self, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        """Append the sockets, and `netns` to its column; return false if the kernel may have left some out.

        `scratch` is overwritten. Raises KernelError.
        """

    def close(self) -> None:
        """Leave the network namespace, so that it can end."""


class OneByOne(ABC):
    """An engine with a reader in each namespace, and `scratch` bytes of memory for all of them."""

    crowded: Set[int] = frozenset()
    changed_idle_time: Set[int] = frozenset()

    def __init__(self, scratch: int) -> None:
        self._readers: dict[int, Reader] = {}
        self._size = scratch

    @functools.cached_property
    def _scratch(self) -> bytearray:
        """Memory that an engine does not take as long as it only stands by."""
        return bytearray(self._size)

    @abstractmethod
    def reader(self) -> Reader:
        """Return a reader of the network namespace of the calling thread. Raises NotPermitted, Unsupported, OSError."""

    def enter(self, netns: int) -> None:
        """Enter the network namespace of the calling thread."""
        self._readers[netns] = self.reader()

    def leave(self, netns: int) -> None:
        """Leave the network namespace."""
        self._readers.pop(netns).close()

    def read(self, sockets: Sockets) -> Gaps:
        """Read one namespace after the other; of each, all sockets or none."""
        gaps: Gaps = {}
        for netns, reader in self._readers.items():
            start = len(sockets)
            try:
                touching.await_locks(netns)
                if not reader.dump(netns, sockets, self._scratch):
                    gaps[netns] = None
            except touching.MustNotTouch:
                gaps[netns] = Silent("it did not answer before")
            except KernelError as error:
                sockets.truncate(start)
                gaps[netns] = error
        return gaps

    def close(self) -> None:
        """Close every reader."""
        for netns in list(self._readers):
            self.leave(netns)
