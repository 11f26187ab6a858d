"""Which engine reads the sockets and arms them: the better one that works here, and why not the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from keepaliveD.errors import NotPermitted, Refusal, Unsupported
from keepaliveD.model import Armed, Arming, Connection, IPNetwork
from keepaliveD.platforms.base import Armer, Keep, Order
from keepaliveD.platforms.linux.bpf.armer import BpfArmer
from keepaliveD.platforms.linux.bpf.connect import PIN, PINS, ConnectArmer, cgroup_root, unpin
from keepaliveD.platforms.linux.bpf.reader import BpfIterator
from keepaliveD.platforms.linux.bpf.walker import BpfWalker
from keepaliveD.platforms.linux.engine import Engine
from keepaliveD.platforms.linux.netlink import Netlink
from keepaliveD.platforms.linux.owners import ProcOwners
from keepaliveD.platforms.linux.pidfd import PidfdArmer
from keepaliveD.policy.connect import Opening

AUTO, BPF, NETLINK = "auto", "bpf", "netlink"


def choose(wanted: str, root: Path, ignore: Sequence[IPNetwork]) -> tuple[Engine, str]:
    """The engine, and the reason where it is not BPF though that was allowed.

    Raises Unsupported, NotPermitted where it must be BPF and cannot.
    """
    if wanted == NETLINK:
        return Netlink(), ""
    try:
        return _bpf(root, ignore)
    except Refusal as refusal:
        if wanted == BPF:
            raise type(refusal)(f'watch.engine = "bpf": {refusal}') from refusal
        return Netlink(), str(refusal)


def _bpf(root: Path, ignore: Sequence[IPNetwork]) -> tuple[Engine, str]:
    """The walker, or the iterator where the kernel is too old for it. Raises Unsupported, NotPermitted."""
    try:
        return BpfWalker(ignore), ""
    except Unsupported as refusal:
        return BpfIterator(root, ignore), f"one namespace after the other: {refusal}"


class ChosenArmer:
    """Arms by BPF or by duplicates of descriptors, as `wanted` says: the engine of the last watcher."""

    def __init__(self, bpf: BpfArmer, pidfd: PidfdArmer) -> None:
        self._bpf = bpf
        self._pidfd = pidfd
        self.wanted = AUTO

    def arm(self, orders: Sequence[Order], earlier: Mapping[int, Armed], keep: Keep) -> list[Arming]:
        """What became of each, decided by policy.settle."""
        return self._chosen().arm(orders, earlier, keep)

    def disarm(self, connections: Sequence[Connection], earlier: Mapping[int, Armed]) -> list[Arming]:
        """Put back what stood there before, where nobody has set it since."""
        return self._chosen().disarm(connections, earlier)

    def _chosen(self) -> Armer:
        """Only what cannot be loaded is replaced: what fails midway may have set something."""
        if self.wanted == NETLINK:
            return self._pidfd
        try:
            self._bpf.load()
        except Refusal:
            if self.wanted == BPF:
                raise
            return self._pidfd
        return self._bpf


class BpfAtConnect:
    """New connections of all network namespaces, as far as BPF may be used."""

    def __init__(self, root: Path, owners: ProcOwners) -> None:
        self._root = root
        self._owners = owners
        self._pin = root / PINS / PIN

    def begin(self, *, engine: str, openings: Sequence[Opening], survive: bool) -> ConnectArmer:
        """Arm them by these; raises Unsupported, NotPermitted."""
        if engine == NETLINK:
            raise Unsupported('watch.engine = "netlink"')
        return ConnectArmer(cgroup_root(self._root), openings, self._pin if survive else None, self._owners.of_cgroups)

    def surviving(self) -> str:
        """The pin that keeps the program of an earlier daemon attached, or nothing."""
        try:
            return str(self._pin) if self._pin.exists() else ""
        except PermissionError:
            return ""  # nobody but root may look there

    def end(self) -> None:
        """Take that pin away. Raises NotPermitted."""
        try:
            unpin(self._root)
        except OSError as error:
            raise NotPermitted(f"{self._pin}: cannot be removed: {error.strerror}; run as root") from error
