"""Every TCP socket of the host: one netlink socket in each network namespace."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.errors import KernelError, Refusal
from keepaliveD.model import Column, Sockets, SocketTable
from keepaliveD.platforms.linux import interfaces, namespaces
from keepaliveD.platforms.linux.sock_diag import BATCH, SockDiag


class NetlinkWatcher:
    """Takes snapshots by sock_diag."""

    def __init__(self, root: Path = Path("/"), *, all_namespaces: bool = True, with_interfaces: bool = False) -> None:
        self._root = root
        self._all_namespaces = all_namespaces
        self._with_interfaces = with_interfaces
        self._paths = namespaces.only_here(root)
        (self._own,) = self._paths
        self._diags = {self._own: SockDiag()}
        self._unseen = 0  # namespaces that we may not enter
        self._scratch = bytearray(BATCH)
        self._expected = 0

    def snapshot(self, now: float) -> SocketTable:
        """All sockets that can be seen; `now` is when. Raises KernelError."""
        if self._all_namespaces:
            self._follow_namespaces()
        sockets = Sockets(capacity=self._expected)
        names = {"": 0}
        complete = True
        for netns, diag in list(self._diags.items()):
            complete = self._dump(netns, diag, sockets, names) and complete
        self._expected = len(sockets)
        return SocketTable(sockets, now, complete, tuple(names), len(self._diags), self._unseen)

    def close(self) -> None:
        """Let go of every namespace."""
        for diag in self._diags.values():
            diag.close()

    def _dump(self, netns: int, diag: SockDiag, sockets: Sockets, names: dict[str, int]) -> bool:
        """Append one namespace, or nothing of it; false where something may be missing."""
        start = len(sockets)
        try:
            whole = diag.dump(netns, sockets, self._scratch)
            self._resolve(netns, sockets.since(start), names)
        except KernelError:
            if netns == self._own:
                raise
            sockets.truncate(start)
            self._diags.pop(netns).close()  # entered anew at the next scan
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
        """Enter new namespaces; leave those that only our own socket still keeps alive."""
        self._paths = namespaces.everywhere(self._root)
        for gone in self._diags.keys() - self._paths.keys():
            self._diags.pop(gone).close()
        self._unseen = 0
        for new in self._paths.keys() - self._diags.keys():
            try:
                self._diags[new] = namespaces.inside(self._paths[new], SockDiag)
            except FileNotFoundError:
                continue  # ended meanwhile
            except (OSError, Refusal):
                self._unseen += 1
