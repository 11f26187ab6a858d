"""Which engine reads the sockets: the better one that works here, and why not the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keepaliveD.errors import Refusal
from keepaliveD.model import IPNetwork
from keepaliveD.platforms.linux.bpf.reader import BpfEngine
from keepaliveD.platforms.linux.watcher import Engine, Netlink

AUTO, BPF, NETLINK = "auto", "bpf", "netlink"


def choose(wanted: str, root: Path, ignore: Sequence[IPNetwork]) -> tuple[Engine, str]:
    """The engine, and the reason where it is not BPF though that was allowed.

    Raises Unsupported, NotPermitted where it must be BPF and cannot.
    """
    if wanted == NETLINK:
        return Netlink(), ""
    try:
        return BpfEngine(root, ignore), ""
    except Refusal as refusal:
        if wanted == BPF:
            raise type(refusal)(f'watch.engine = "bpf": {refusal}') from refusal
        return Netlink(), str(refusal)
