"""Select the engine that reads sockets, and the armer: the better one that works here, and why not the other."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from keepaliveD.model import requirements
from keepaliveD.model.errors import NotPermitted, Refusal, Unsupported
from keepaliveD.model.reports import Counted
from keepaliveD.model.results import Armed
from keepaliveD.model.rules import IPNetwork
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.base import Armer, Unpinned
from keepaliveD.platforms.linux import capabilities
from keepaliveD.platforms.linux.arming.around_locks import AroundLocks
from keepaliveD.platforms.linux.arming.pidfd import PidfdArmer
from keepaliveD.platforms.linux.bpf import libbpf, recall
from keepaliveD.platforms.linux.bpf.connect import ConnectArmer, cgroup_root
from keepaliveD.platforms.linux.bpf.conntrack import BpfConntrack
from keepaliveD.platforms.linux.bpf.holders import BpfHolders
from keepaliveD.platforms.linux.bpf.pins import DIRECTORY, Pins
from keepaliveD.platforms.linux.bpf.reader import BpfIterator
from keepaliveD.platforms.linux.bpf.walker import BpfWalker
from keepaliveD.platforms.linux.owners.cgroups import Cgroups
from keepaliveD.platforms.linux.owners.holders import Holders
from keepaliveD.platforms.linux.reading.engine import Engine
from keepaliveD.platforms.linux.reading.netlink import Netlink
from keepaliveD.policy.arming.connect import ConnectPlan

AUTO, BPF, NETLINK = "auto", "bpf", "netlink"


def select_engine(wanted: str, root: Path, ignore: Sequence[IPNetwork]) -> tuple[Engine, str]:
    """Return the engine, and the reason if it is netlink although BPF was allowed.

    Raises Unsupported, NotPermitted if the engine must be BPF and cannot.
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
    """Return the walker, or the iterator if the kernel is too old for it. Raises Unsupported, NotPermitted."""
    try:
        return BpfWalker(ignore), ""
    except Unsupported as refusal:
        return BpfIterator(root, ignore), f"one namespace at a time: {refusal}"


def load_conntrack(engine: Engine, root: Path) -> BpfConntrack | None:
    """Return the faster way to ask this host's own firewall; None beside an engine without BPF, or where it cannot."""
    if engine.name != BPF:
        return None
    try:
        return BpfConntrack(root)
    except Refusal:
        return None


def holders(engine: Engine, root: Path) -> Holders:
    """Return who finds the processes that have sockets open: by BPF beside an engine that uses it."""
    return Holders(root, BpfHolders().find if engine.name == BPF else None)


class SelectedArmer:
    """Arms by BPF or by duplicates of descriptors, depending on the `wanted` engine."""

    def __init__(self, wanted: str, bpf: AroundLocks, pidfd: PidfdArmer) -> None:
        self._wanted = wanted
        self._bpf = bpf
        self._pidfd = pidfd

    @property
    def by_cookie(self) -> bool:
        """Return whether sockets are found by their cookies."""
        return self._selected().by_cookie

    def read(self, targets: Column, *, closing: bool) -> Column:
        """Return what stands in the first of these sockets."""
        return self._selected().read(targets, closing=closing)

    def change(self, changes: Column, *, closing: bool) -> Column:
        """Set each socket in which the expected settings still stand."""
        return self._selected().change(changes, closing=closing)

    def close(self) -> None:
        """Remove the BPF program from the kernel, and close what is open."""
        self._bpf.close()
        self._pidfd.close()

    def _selected(self) -> Armer:
        """Return the armer that loads: one that fails later may have set something, so it is not replaced."""
        if self._wanted == NETLINK:
            return self._pidfd
        try:
            self._bpf.load()
        except Refusal:
            if self._wanted == BPF:
                raise
            return self._pidfd
        return self._bpf


class BpfAtConnect:
    """Arms at connect in all network namespaces, as far as BPF may be used."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cgroups = Cgroups(root)
        self._pins = Pins(root / DIRECTORY)
        self._armer: ConnectArmer | None = None

    @capabilities.for_bpf()
    def begin(self, *, engine: str, plan: ConnectPlan, survive: bool) -> Unpinned:
        """Arm at connect by this plan; return what will not outlive us although it should.

        If it cannot begin, the plan before stays. Raises Unsupported, NotPermitted.
        """
        if engine == NETLINK:
            raise Unsupported('watch.engine = "netlink"')
        new = self._begin(plan, self._armer, survive=survive)
        if self._armer:
            self._armer.close()
        self._armer = new
        return new.unpinned

    def _begin(self, plan: ConnectPlan, before: ConnectArmer | None, *, survive: bool) -> ConnectArmer:
        cgroup = cgroup_root(self._root)
        with self._records(before) as found:
            records = found if before or not self._pins.claimed_by_another() else None
            return ConnectArmer(cgroup, plan, self._pins, survive=survive, records=records, cgroups=self._cgroups)

    @capabilities.for_bpf()
    def refresh(self) -> list[Counted]:
        """Learn which units and containers exist now; return how many sockets were armed since. Raises KernelError."""
        return self._armer.refresh() if self._armer else []

    @capabilities.for_bpf()
    def tend(self) -> Unpinned | None:
        """Pin again what somebody has unpinned; return what that could not be done for, None where nobody had."""
        return self._armer.unpinned if self._armer and self._armer.tend() else None

    @capabilities.for_bpf()
    def armed(self) -> Mapping[int, Armed]:
        """Return by cookie how open sockets were armed at connect, by us or an earlier daemon. Raises Refusal."""
        with self._records(self._armer) as records:
            return {} if records is None else recall.read(records)

    def shared(self) -> bool:
        """Return whether a daemon that runs now has pinned its records, and they can be read here."""
        return self._pins.are_records_seen() and self._pins.claimed_by_another()

    @capabilities.for_bpf()
    def forget(self) -> None:
        """Forget what armed() has returned. Raises Refusal."""
        with self._records(self._armer) as records:
            if records is not None:
                recall.forget(records)
            elif not self._pins.are_records_left():
                return
        if not self._armer and not self._pins.claimed_by_another():
            self._pins.drop_records()
            self._pins.remove_directory()

    def pinned(self) -> str:
        """Return the pin that keeps a program attached, or "". Raises NotPermitted if that cannot be seen."""
        try:
            return str(self._pins.pinned() or "")
        except PermissionError as error:
            raise NotPermitted(f"{self._pins.program}: cannot be checked: {error.strerror}; run as root") from error

    @capabilities.for_bpf()
    def unpin(self) -> None:
        """Remove the pin, unless another daemon has it. Raises NotPermitted."""
        try:
            if not self._pins.claimed_by_another():
                self._pins.drop_program()
                self._pins.remove_directory()
        except OSError as error:
            raise NotPermitted(
                f"{self._pins.program}: cannot be removed, and still arms new connections: {error.strerror}; "
                f"run as root{self._place(error)}: rm {self._pins.program}"
            ) from error

    def _place(self, error: OSError) -> str:
        """Return where a pin can be removed that cannot be removed here."""
        if error.errno != errno.EROFS:
            return ""
        return f", where {self._pins.program.parent.parent} is not mounted read-only"

    @capabilities.for_bpf()
    def close(self) -> None:
        """Stop arming at connect, unless the program is pinned. Records that are nowhere else stay."""
        if self._armer:
            if not self._pins.claimed_by_another() and not self._armed_unrecorded():
                self._pins.drop_records()
            self._armer.close()
        self._armer = None
        self._pins.release()

    def _armed_unrecorded(self) -> bool:
        try:
            return bool(self.armed())
        except Refusal:
            return True

    @contextlib.contextmanager
    def _records(self, armer: ConnectArmer | None) -> Iterator[int | None]:
        """Yield the map of this armer's records, or the pinned map, or None. Raises Refusal where it cannot be read."""
        if armer:
            yield armer.records
            return
        if not self._pins.are_records_seen():
            yield None
            return
        try:
            descriptor = libbpf.open_pinned(self._pins.records)
        except (OSError, Unsupported) as error:
            raise _unreadable(self._pins.records, error) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _unreadable(records: Path, error: OSError | Unsupported) -> Refusal:
    if isinstance(error, PermissionError):
        return NotPermitted(f"{records}: cannot be read: {error.strerror}; requires {requirements.RECALL.privileges}")
    reason = error.strerror if isinstance(error, OSError) else error
    return Unsupported(f"{records}: cannot be read: {reason}")
