"""Linux: /proc/sys, NETLINK_SOCK_DIAG and BPF, network namespaces, /proc/PID/fd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keepaliveD.model.rules import IPNetwork
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.linux import engines
from keepaliveD.platforms.linux.arming.pidfd import PidfdArmer
from keepaliveD.platforms.linux.bpf.armer import BpfArmer
from keepaliveD.platforms.linux.owners.holders import Holders
from keepaliveD.platforms.linux.owners.proc import ProcOwners
from keepaliveD.platforms.linux.reading.netlink import Netlink
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.platforms.linux.sysctl import ProcSys


def linux(root: Path = Path("/")) -> Platform:
    """The adapters; every path they use hangs from `root`."""
    holders = Holders(root)
    owners = ProcOwners(root, holders)
    armer = engines.ChosenArmer(BpfArmer(root), PidfdArmer(root, holders))

    def watcher(
        *, engine: str, all_namespaces: bool, with_interfaces: bool, ignore: Sequence[IPNetwork]
    ) -> SocketWatcher:
        armer.wanted = engine  # one word of the configuration for both
        chosen, reason = engines.choose(engine, root, ignore)
        return SocketWatcher(
            root,
            chosen,
            reason,
            spare=Netlink() if engine == engines.AUTO else None,
            all_namespaces=all_namespaces,
            with_interfaces=with_interfaces,
        )

    return Platform("linux", ProcSys(root), owners, armer, engines.BpfAtConnect(root, owners), watcher)
