"""Keepalive for new connections, by the sock_ops program of handshake.bpf.c: none is ever unprotected.

It runs for all of a cgroup v2 and what is below, in every network namespace, when a connection is
established at either end; beside the programs of others (links take BPF_F_ALLOW_MULTI).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keepaliveD.errors import Unsupported
from keepaliveD.model import IPNetwork
from keepaliveD.platforms.linux.bpf import libbpf
from keepaliveD.policy.handshake import Opening

OBJECT = Path(__file__).with_name("handshake.bpf.o")
PROGRAM = "arm_connection"
RULES = ".rodata.rules"
MOST = 64  # its MOST_RULES

RULE = np.dtype(
    [("network", "u8", 2), ("mask", "u8", 2), ("port", "u4"), ("verb", "u4"), ("wish", "i4", 4), ("jiffies", "i4", 2)]
)
LEAVE, ARM = 1, 2

PINS = Path("sys/fs/bpf/tcp-keepalived")  # below root
PIN = "handshake"

WHOLE = (1 << 128) - 1
HALF = (1 << 64) - 1
V4_MAPPED = 0xFFFF << 32  # RFC 4291, 2.5.5.2
ROOTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")  # where cgroup v2 is mounted alone, and beside v1


class Handshake:
    """The program, at work from here to close(); where it is pinned, until unpin()."""

    def __init__(self, cgroup: Path, openings: Sequence[Opening], pin: Path | None = None) -> None:
        """Load and attach it. Raises Unsupported, NotPermitted."""
        if len(openings) > MOST:
            raise Unsupported(f"[[arm]]: {len(openings)} networks and ports are too many for BPF; it knows {MOST}")
        self._object = libbpf.Object(OBJECT)
        try:
            self._object.preset(libbpf.CONSTANTS)
            self._object.preset(b"".join(map(_rule, openings)), RULES)
            self._object.load()
            if pin:
                pin.parent.mkdir(mode=0o700, exist_ok=True)
                pin.unlink(missing_ok=True)
            self._object.attach_cgroup(PROGRAM, cgroup, pin)
        except BaseException:
            self._object.close()
            raise

    def close(self) -> None:
        """Detach it, unless it is pinned."""
        self._object.close()


def cgroup_root(root: Path) -> Path:
    """Where cgroup v2 is mounted. Raises Unsupported."""
    for path in (root / each for each in ROOTS):
        if (path / "cgroup.controllers").exists():
            return path
    raise Unsupported("no cgroup v2 is mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified")


def unpin(root: Path) -> bool:
    """Detach what was pinned; false where there was nothing."""
    pin = root / PINS / PIN
    try:
        pin.unlink()
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError):  # somebody may have made it for us, or be in it
        pin.parent.rmdir()
    return True


def _rule(opening: Opening) -> bytes:
    rule = np.zeros((), RULE)
    if opening.network is not None:
        rule["network"], rule["mask"] = _network(opening.network)
    rule["port"] = opening.port
    rule["verb"] = ARM if opening.times else LEAVE
    if opening.times:
        rule["wish"] = (opening.times.idle, opening.times.interval, opening.times.probes, 1)
        rule["jiffies"] = rule["wish"][:2] * libbpf.JIFFIES
    return rule.tobytes()


def _network(network: IPNetwork) -> tuple[tuple[int, int], tuple[int, int]]:
    """Address and mask, each in two halves; IPv4 is v4-mapped."""
    if network.version == 4:
        number, bits = V4_MAPPED | int(network.network_address), 32 - network.prefixlen
    else:
        number, bits = int(network.network_address), 128 - network.prefixlen
    mask = WHOLE >> bits << bits
    return (number >> 64, number & HALF), (mask >> 64, mask & HALF)
