"""Arm by BPF, and around sockets that are locked for ever.

The kernel's iterator locks each socket of a network namespace, one after the other. Anybody can keep one of his own
locked (a send from a file that never comes), and would keep all others of his namespace from being armed. There the
wanted sockets are reached by their descriptors, one by one, and no other is touched.
"""

from __future__ import annotations

import numpy as np

from keepaliveD.model.sockets import Column
from keepaliveD.platforms.linux.arming.pidfd import MOST, PidfdArmer
from keepaliveD.platforms.linux.bpf.armer import BpfArmer
from keepaliveD.platforms.linux.owners.holders import Holders


class AroundLocks:
    """Arms sockets in all network namespaces that can be entered."""

    by_cookie = True

    def __init__(self, bpf: BpfArmer, pidfd: PidfdArmer, holders: Holders) -> None:
        self._bpf = bpf
        self._pidfd = pidfd
        self._holders = holders

    def load(self) -> None:
        """Load the BPF program. Raises Unsupported, NotPermitted."""
        self._bpf.load()

    def read(self, targets: Column, *, closing: bool) -> Column:
        """Return what stands in the first of these sockets. Raises Unsupported, NotPermitted, KernelError."""
        looked = self._bpf.read(targets, closing=closing)
        rows = self._left_out(targets[: len(looked)])
        if len(rows) > MOST:
            looked = looked[: rows[MOST]]
        if len(rows := rows[:MOST]):
            ours = targets[rows]
            self._holders.find(ours["inode"].tolist())
            looked[rows] = self._pidfd.read(ours, closing=closing)
        return looked

    def change(self, changes: Column, *, closing: bool) -> Column:
        """Set each socket in which the expected settings still stand. Raises the same."""
        results = self._bpf.change(changes, closing=closing)
        rows = self._left_out(changes)
        if len(rows):
            results[rows] = self._pidfd.change(changes[rows], closing=closing)
        return results

    def close(self) -> None:
        """Remove the program from the kernel."""
        self._bpf.close()

    def _left_out(self, targets: Column) -> Column:
        """Return the rows of the sockets in namespaces that the BPF program did not visit."""
        return np.flatnonzero(np.isin(targets["netns"], list(self._bpf.left_out)))
