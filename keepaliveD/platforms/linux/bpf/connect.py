"""Keepalive for new connections, by the sock_ops program of connect.bpf.c: none is ever unprotected.

It runs for all of a cgroup v2 and what is below, in every network namespace, when a connection is
established at either end; beside the programs of others (links take BPF_F_ALLOW_MULTI).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keepaliveD.errors import Unsupported
from keepaliveD.model import IPNetwork, Owner
from keepaliveD.platforms.linux.bpf import libbpf
from keepaliveD.policy.connect import Opening

OBJECT = Path(__file__).with_name("connect.bpf.o")
PROGRAM = "arm_connection"
RULES = ".rodata.rules"
MOST = 64  # its MOST_RULES
OWNERS = "owners"
MOST_OWNERS = 16384  # its max_entries

RULE = np.dtype(
    [
        ("network", "u8", 2),
        ("mask", "u8", 2),
        ("port", "u4"),
        ("verb", "u2"),
        ("asks_for_owner", "?"),
        ("unused", "u1"),
        ("wish", "i4", 4),
        ("jiffies", "i4", 2),
    ]
)
LEAVE, ARM = 1, 2

PINS = Path("sys/fs/bpf/tcp-keepalived")  # below root
PIN = "connect"

WHOLE = (1 << 128) - 1
HALF = (1 << 64) - 1
V4_MAPPED = 0xFFFF << 32  # RFC 4291, 2.5.5.2
ROOTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")  # where cgroup v2 is mounted alone, and beside v1


class ConnectArmer:
    """The program, at work from here to close(); where it is pinned, until unpin().

    `unpinned` says why it is not pinned though it should be.
    """

    def __init__(
        self,
        cgroup: Path,
        openings: Sequence[Opening],
        pin: Path | None = None,
        owners: Callable[[], Mapping[int, Owner]] = dict,
    ) -> None:
        """Load and attach it; `owners` tells unit and container of the cgroups that there are, by their ids.

        Raises Unsupported, NotPermitted.
        """
        if len(openings) > MOST:
            raise Unsupported(f"[[arm]]: {len(openings)} networks and ports are too many for BPF; it knows {MOST}")
        self._owners = owners
        self._openings = openings
        self._known: set[int] = set()  # cgroups
        self._object = libbpf.Object(OBJECT, linux="5.10")
        try:
            self._object.preset(libbpf.CONSTANTS)
            self._object.preset(b"".join(map(_rule, openings)), RULES)
            self._object.load()
            self.look_around()
            link = self._object.attach_cgroup(PROGRAM, cgroup)
            self.unpinned = self._pin(link, pin) if pin else ""
        except BaseException:
            self._object.close()
            raise

    def look_around(self) -> None:
        """Learn which cgroups there are now, and whom the rules mean; connections of others wait for the next scan.

        Raises KernelError.
        """
        if not any(opening.owner for opening in self._openings):
            return
        owners = self._owners()
        if gone := self._known - owners.keys():
            self._object.drop_all(OWNERS, np.fromiter(gone, np.uint64))
            self._known -= gone
        if new := list(owners.keys() - self._known)[: MOST_OWNERS - len(self._known)]:
            meant = np.array([self._meaning(owners[cgroup]) for cgroup in new], np.uint64)
            self._object.put_all(OWNERS, np.array(new, np.uint64), meant)
            self._known.update(new)

    def _meaning(self, owner: Owner) -> int:
        """The rules that mean it, a bit each, by their numbers."""
        return sum(1 << number for number, opening in enumerate(self._openings) if opening.means(owner))

    def close(self) -> None:
        """Detach it, unless it is pinned."""
        self._object.close()

    def _pin(self, link: int, pin: Path) -> str:
        """Have it outlive us, in place of what did so before; why it cannot, or nothing."""
        try:
            pin.unlink(missing_ok=True)
            self._object.pin(link, pin)
        except OSError as error:
            return (
                f"{pin}: {error.strerror}; it takes a BPF file system that may be written to, see the drop-in bpf.conf"
            )
        return ""


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
    rule["asks_for_owner"] = opening.owner is not None
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
