"""A way to read the TCP sockets of the network namespaces that it was taken to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from typing import Protocol

from keepaliveD.model.errors import KernelError
from keepaliveD.model.sockets import Sockets
from keepaliveD.platforms import touching
from keepaliveD.platforms.touching import Kind

Gaps = dict[int, KernelError | None]  # namespaces of which sockets may be missing, and why if they were not read at all


class Silent(KernelError):
    """The namespace did not answer before, and was not asked now."""


class Engine(Protocol):
    """Reads all that it has entered at once."""

    name: str
    crowded: Set[int]  # namespaces of which the last reading left sockets out, as the next one will

    def enter(self, netns: int) -> None:
        """Take to the network namespace of the calling thread, by its inode, and keep that alive.

        Raises NotPermitted, Unsupported, OSError.
        """

    def leave(self, netns: int) -> None:
        """Let go of it."""

    def read(self, sockets: Sockets) -> Gaps:
        """Append them, with the kernel's indices as their interfaces. Raises KernelError where all is lost."""

    def close(self) -> None:
        """Let go of everything."""


class Reader(Protocol):
    """Reads the one network namespace that it was made in, and keeps that alive."""

    def dump(self, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        """Append them, false where the kernel may have left some out; `netns` goes into that column.

        `scratch` is overwritten. Raises KernelError.
        """

    def close(self) -> None:
        """Let go of the namespace."""


class OneByOne(ABC):
    """An engine with a reader in each namespace, and `scratch` bytes of memory for all of them."""

    crowded: Set[int] = frozenset()

    def __init__(self, scratch: int) -> None:
        self._readers: dict[int, Reader] = {}
        self._scratch = bytearray(scratch)

    @abstractmethod
    def reader(self) -> Reader:
        """One for the namespace of the calling thread. Raises NotPermitted, Unsupported, OSError."""

    def enter(self, netns: int) -> None:
        """Read this namespace too."""
        self._readers[netns] = self.reader()

    def leave(self, netns: int) -> None:
        """Read it no more."""
        self._readers.pop(netns).close()

    def read(self, sockets: Sockets) -> Gaps:
        """One namespace after the other; all of one, or nothing."""
        gaps: Gaps = {}
        for netns, reader in self._readers.items():
            start = len(sockets)
            try:
                touching.now(Kind.NAMESPACE, netns)
                if not reader.dump(netns, sockets, self._scratch):
                    gaps[netns] = None
            except touching.Avoided:
                gaps[netns] = Silent("it did not answer before")
            except KernelError as error:
                sockets.truncate(start)
                gaps[netns] = error
        return gaps

    def close(self) -> None:
        """Close every reader."""
        for netns in list(self._readers):
            self.leave(netns)
