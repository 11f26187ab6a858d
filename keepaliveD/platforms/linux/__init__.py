"""Linux: /proc/sys, NETLINK_SOCK_DIAG and BPF, network namespaces, /proc/PID/fd."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from keepaliveD.model.rules import Watching
from keepaliveD.platforms.base import DeathReader, DeathWatch, Platform, Session
from keepaliveD.platforms.linux import capabilities, dmi, ipvs, netstat, selection
from keepaliveD.platforms.linux.arming.around_locks import AroundLocks
from keepaliveD.platforms.linux.arming.pidfd import PidfdArmer
from keepaliveD.platforms.linux.bpf.armer import BpfArmer
from keepaliveD.platforms.linux.owners.proc import ProcOwners
from keepaliveD.platforms.linux.reading.netlink import Netlink
from keepaliveD.platforms.linux.reading.routes import Rtnetlink
from keepaliveD.platforms.linux.reading.watcher import SocketWatcher
from keepaliveD.platforms.linux.sysctl import ProcSys


def linux(name: str = "linux", root: Path = Path("/")) -> Platform:
    """Return it, with its paths below `root`."""

    def open_session(watching: Watching) -> Session:
        capabilities.make_all_effective()  # in a worker, whose daemon keeps few
        engine, reason = selection.select_engine(watching.engine, root, watching.ignore)
        watcher = SocketWatcher(
            root,
            engine,
            reason,
            spare=Netlink() if watching.engine == selection.AUTO else None,
            all_namespaces=watching.all_namespaces,
            with_interfaces=watching.with_interfaces,
            load_conntrack=partial(selection.load_conntrack, engine, root),
        )
        holders = selection.holders(engine, root)
        pidfd = PidfdArmer(root, holders)
        armer = selection.SelectedArmer(watching.engine, AroundLocks(BpfArmer(root), pidfd, holders), pidfd)
        return Session(watcher, ProcOwners(root, holders), armer, watcher, Rtnetlink())

    at_connect = selection.BpfAtConnect(root)
    return Platform(
        name,
        ProcSys(root),
        at_connect,
        open_session,
        ipvs.notes(root),
        watch_deaths=lambda watch: _open_reader(root, watch),
        cloud=lambda: dmi.cloud(root),
        confine=capabilities.keep_those_of_main_process,
        probes_sent=lambda: netstat.probes_sent(root),
    )


def _open_reader(root: Path, watch: DeathWatch) -> DeathReader:
    """Load what only a daemon needs, and see how connections end. Raises Unsupported, NotPermitted."""
    from keepaliveD.platforms.linux.deaths import reader

    return reader.open_reader(root, watch)
