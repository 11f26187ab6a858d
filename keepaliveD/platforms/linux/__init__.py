"""Linux: /proc/sys, NETLINK_SOCK_DIAG, network namespaces, /proc/PID/fd."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.linux.holders import Holders
from keepaliveD.platforms.linux.owners import ProcOwners
from keepaliveD.platforms.linux.pidfd import PidfdArmer
from keepaliveD.platforms.linux.sysctl import ProcSys
from keepaliveD.platforms.linux.watcher import SocketWatcher


def linux(root: Path = Path("/")) -> Platform:
    """The adapters; every path they use hangs from `root`."""

    def watcher(*, all_namespaces: bool, with_interfaces: bool) -> SocketWatcher:
        return SocketWatcher(root, all_namespaces=all_namespaces, with_interfaces=with_interfaces)

    holders = Holders(root)
    return Platform("linux", ProcSys(root), ProcOwners(root, holders), PidfdArmer(root, holders), watcher)
