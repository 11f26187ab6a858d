"""Every TCP socket of the host: one reader in each network namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from keepaliveD.errors import KernelError, Refusal
from keepaliveD.platforms.linux import interfaces, namespaces
from keepaliveD.platforms.linux.sock_diag import BATCH, SockDiag
from keepaliveD.sockets import Column, Sockets, SocketTable


class Reader(Protocol):
    """Reads the sockets of the network namespace that it was made in, and keeps that alive."""

    def dump(self, netns: int, sockets: Sockets, scratch: bytearray) -> bool:
        """Append them; false where the kernel may have left some out.

        `netns` goes into the column of that name, interfaces are the kernel's indices; `scratch`, of
        BATCH bytes, is overwritten. Raises KernelError.
        """

    def close(self) -> None:
        """Let go of the namespace."""


class Engine(Protocol):
    """A way to read sockets."""

    name: str

    def reader(self) -> Reader:
        """One for the namespace of the calling thread. Raises NotPermitted, Unsupported, OSError."""

    def close(self) -> None:
        """Let go of what its readers share."""


class Netlink:
    """The engine that every kernel has."""

    name = "netlink"

    def reader(self) -> SockDiag:
        """A netlink socket."""
        return SockDiag()

    def close(self) -> None:
        """Nothing is shared."""


class SocketWatcher:
    """Takes snapshots of all namespaces by one engine, which it closes at last.

    `reason` says why it is no better one; `spare` takes over if it fails, and what is known of the
    sockets stays: every engine tells the same cookies.
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
    ) -> None:
        self._root = root
        self._engine = engine or Netlink()
        self._reason = reason
        self._spare = spare
        self._all_namespaces = all_namespaces
        self._with_interfaces = with_interfaces
        self._paths = namespaces.only_here(root)
        (self._own,) = self._paths
        self._readers: dict[int, Reader] = {self._own: self._engine.reader()}
        self._unseen = 0  # namespaces that we may not enter
        self._scratch = bytearray(BATCH)
        self._expected = 0

    @property
    def engine(self) -> str:
        """How sockets are read, and what hinders a better way."""
        return f"sockets read by {self._engine.name}" + (f" ({self._reason})" if self._reason else "")

    def snapshot(self, now: float) -> SocketTable:
        """All sockets that can be seen; `now` is when. Raises KernelError."""
        try:
            return self._look(now)
        except KernelError as error:
            if self._spare is None or self._spare.name == self._engine.name:
                raise
            self._take(self._spare, str(error))
            return self._look(now)

    def _take(self, engine: Engine, reason: str) -> None:
        self.close()
        self._engine, self._reason = engine, reason
        self._readers = {self._own: engine.reader()}

    def _look(self, now: float) -> SocketTable:
        if self._all_namespaces:
            self._follow_namespaces()
        sockets = Sockets(capacity=self._expected)
        names = {"": 0}
        complete = True
        for netns, reader in list(self._readers.items()):
            complete = self._dump(netns, reader, sockets, names) and complete
        self._expected = len(sockets)
        return SocketTable(sockets, now, complete, tuple(names), len(self._readers), self._unseen)

    def close(self) -> None:
        """Let go of every namespace."""
        for reader in self._readers.values():
            reader.close()
        self._engine.close()

    def _dump(self, netns: int, reader: Reader, sockets: Sockets, names: dict[str, int]) -> bool:
        """Append one namespace, or nothing of it; false where something may be missing."""
        start = len(sockets)
        try:
            whole = reader.dump(netns, sockets, self._scratch)
            self._resolve(netns, sockets.since(start), names)
        except KernelError:
            if netns == self._own:
                raise
            sockets.truncate(start)
            self._readers.pop(netns).close()  # entered anew at the next scan
            return False
        return whole

    def _resolve(self, netns: int, new: dict[str, Column], names: dict[str, int]) -> None:
        """Number the interfaces of one namespace's sockets by `names`; ours is seen without entering it."""
        if not self._with_interfaces:
            new["interface"][:] = 0
        elif netns == self._own:
            interfaces.look().resolve(new, names)
        else:
            try:
                look = namespaces.inside(self._paths[netns], interfaces.look)
            except OSError as error:
                raise KernelError(f"interfaces: {error.strerror}") from error
            look.resolve(new, names)

    def _follow_namespaces(self) -> None:
        """Enter new namespaces; leave those that only our own reader still keeps alive."""
        self._paths = namespaces.everywhere(self._root)
        for gone in self._readers.keys() - self._paths.keys():
            self._readers.pop(gone).close()
        self._unseen = 0
        for new in self._paths.keys() - self._readers.keys():
            try:
                self._readers[new] = namespaces.inside(self._paths[new], self._engine.reader)
            except FileNotFoundError:
                continue  # ended meanwhile
            except (OSError, Refusal):
                self._unseen += 1
