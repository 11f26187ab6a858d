"""Arms new connections at connect, by the sock_ops program of connect.bpf.c: none is ever unprotected.

The program runs for all of a cgroup v2 and what is below, in every network namespace, when a connection
is established at either end; beside the programs of others (links take BPF_F_ALLOW_MULTI).
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from keepaliveD.model import requirements
from keepaliveD.model.connections import Owner
from keepaliveD.model.errors import Unsupported
from keepaliveD.model.reports import Counted
from keepaliveD.model.rules import ArmRule, IPNetwork
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.base import Unpinned
from keepaliveD.platforms.linux.bpf import libbpf, twins
from keepaliveD.platforms.linux.bpf.pins import Pins
from keepaliveD.platforms.linux.owners.cgroups import Cgroup
from keepaliveD.policy.arming.connect import ConnectPlan, Opening, Route

OBJECT = Path(__file__).with_name("connect.bpf.o")
PROGRAM = "arm_connection"
ROUTES, RULES = ".rodata.routes", ".rodata.rules"
OWNERS, COUNTS, ARMED = "owners", "counts", "armed"
MOST_CGROUPS = 16384  # their max_entries
MANY = MOST_CGROUPS // 4  # counts: with more of them, counting begins anew

ADDRESS = np.dtype([("high", "u8"), ("low", "u8")], align=True)
TARGET = np.dtype([("network", ADDRESS), ("mask", ADDRESS), ("port", "u4")], align=True)
ROUTE = np.dtype([("target", TARGET), ("below", "i4"), ("third", "i4"), ("verb", "u1"), ("path", "u1")], align=True)
RULE = np.dtype(
    [
        ("target", TARGET),
        *(("number", "u2"), ("verb", "u1"), ("owner", "u1"), ("paths", "u8"), ("wish", libbpf.SETTINGS)),
    ],
    align=True,
)
COUNTED = np.dtype([("cgroup", "u8"), ("rule", "u8")])
SHARED: twins.Twins = {**libbpf.SHARED, "route": ROUTE, "rule": RULE, "counted": COUNTED}
LEAVE, ARM = 1, 2
KNOWN, ALL_BELOW = 1, 1 << 63  # bits of a cgroup's meaning, beside those of rules

WHOLE = (1 << 128) - 1
HALF = (1 << 64) - 1
V4_MAPPED = 0xFFFF << 32  # RFC 4291, 2.5.5.2
ROOTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")  # where cgroup v2 is mounted alone, and beside v1


class KnownCgroups(Protocol):
    """The units and containers of cgroups, by their ids."""

    def outline(self) -> Mapping[int, Cgroup]:
        """Return the cgroups that there are, but for those below one that is whole."""

    def of(self, wanted: Iterable[int]) -> Mapping[int, Cgroup]:
        """Return these cgroups, wherever they are."""


class ConnectArmer:
    """The program, which arms until close(), or if it is pinned, until the pin is removed.

    `unpinned` says why it is not pinned though it should be, and why its records are not, as of the last tend().
    `records` is the descriptor of the map in which it keeps what stood in the sockets that it armed.
    """

    def __init__(
        self,
        cgroup: Path,
        plan: ConnectPlan,
        pins: Pins | None = None,
        *,
        survive: bool = False,
        records: int | None = None,
        cgroups: KnownCgroups,
    ) -> None:
        """Load and attach the program; it goes on with the `records` of an earlier one, if there are any.

        Raises Unsupported, NotPermitted.
        """
        self._cgroups = cgroups
        self._plan = plan
        self._pins = pins
        self._survive = survive
        by_owner = sorted({opening.number for opening in plan.openings if opening.owner})
        self._bits = {number: bit for bit, number in enumerate(by_owner, 1)}
        self._known: dict[int, int] = {}  # the meaning of cgroups
        self._counted: dict[tuple[int, int], int] = {}  # by cgroup and rule
        self._object = libbpf.Object(OBJECT, SHARED, requirements.CONNECT)
        try:
            self._object.preset(libbpf.CONSTANTS.tobytes())
            self._object.preset(b"".join(map(_route, plan.routes)), ROUTES)
            self._object.preset(b"".join(map(self._rule, plan.openings)), RULES)
            if records is not None:
                self._object.reuse(ARMED, records)
            self._object.load()
            self._learn_owners()
            self.records = self._object.map_fd(ARMED)
            lost = self._pin_records(pins) if pins else ""  # before the first connection is armed
            self._link = self._attach(cgroup, pins if records is None else None)
            self.unpinned = Unpinned(self._pin_program(pins, lost) if pins and survive else "", lost)
        except BaseException:
            self._object.close()
            raise

    def refresh(self) -> list[Counted]:
        """Learn which cgroups exist now, and return how many sockets were armed since the last time.

        Connections of cgroups that are not known wait for the next scan where a rule asks for their owner.
        Raises KernelError.
        """
        self._learn_owners()
        keys, totals = self._object.all_of(COUNTS, COUNTED, np.dtype("u8"), MOST_CGROUPS)
        now = dict(zip(keys.tolist(), totals.tolist(), strict=True))
        new = {key: total - self._counted.get(key, 0) for key, total in now.items()}
        self._counted = now
        news = [(cgroup, rule, count) for (cgroup, rule), count in new.items() if count]
        if len(now) >= MANY:
            self._object.drop_all(COUNTS, keys)
            self._counted = {}
        owners = self._cgroups.of({cgroup for cgroup, _, _ in news}) if news else {}
        counts: Counter[tuple[int, Owner]] = Counter()
        for cgroup, rule, count in news:
            counts[rule, Owner(unit=owners[cgroup].unit, container=owners[cgroup].container)] += count
        return [Counted(self._rules[rule], owner, count) for (rule, owner), count in counts.items()]

    def tend(self) -> bool:
        """Pin again what somebody has unpinned; return whether anybody had. What fails is tried again each time."""
        if self._pins is None or self._pins.are_in_place():
            return False
        lost = self._pin_records(self._pins)
        self.unpinned = Unpinned(self._pin_program(self._pins, lost) if self._survive else "", lost)
        return True

    def close(self) -> None:
        """Detach the program, unless it is pinned where it is found."""
        if self.unpinned.program:  # else a pin that nobody sees, as below another mount, keeps it
            with contextlib.suppress(OSError):
                libbpf.detach(self._object.link_fd(self._link))
        self._object.close()

    @property
    def _rules(self) -> dict[int, ArmRule]:
        return {opening.number: opening.rule for opening in self._plan.openings if opening.rule}

    def _learn_owners(self) -> None:
        """Put into the map which rules match which cgroups, if any rule asks; rules match all below a whole one."""
        if not self._bits:
            return
        found = dict(islice(self._cgroups.outline().items(), MOST_CGROUPS))
        meanings = {inode: self._meaning(cgroup) for inode, cgroup in found.items()}
        if gone := self._known.keys() - meanings.keys():
            self._object.drop_all(OWNERS, np.fromiter(gone, np.uint64))
        if new := dict(meanings.items() - self._known.items()):
            self._object.put_all(OWNERS, np.array(list(new), np.uint64), np.array(list(new.values()), np.uint64))
        self._known = meanings

    def _meaning(self, cgroup: Cgroup) -> int:
        """Return the rules that match its unit and container, a bit each, and whether they match all below it, too."""
        owner = Owner(unit=cgroup.unit, container=cgroup.container)
        meant = {opening.number for opening in self._plan.openings if opening.owner and opening.matches_owner(owner)}
        return KNOWN | (ALL_BELOW if cgroup.whole else 0) | sum(1 << self._bits[number] for number in meant)

    def _pin_records(self, pins: Pins) -> str:
        """Pin the records; return why that is not possible, or ""."""
        try:
            pins.claim()
            pins.pin_records(self.records)
        except OSError as error:
            return _why_unpinned(pins, error)
        return ""

    def _attach(self, cgroup: Path, new: Pins | None) -> int:
        """Attach the program. If that fails, its `new` pin of records is removed. Raises Unsupported, NotPermitted."""
        try:
            return self._object.attach_cgroup(PROGRAM, cgroup)
        except BaseException:
            if new:
                new.drop_records()
            raise

    def _pin_program(self, pins: Pins, lost: str) -> str:
        """Pin the attached program, unless its records are `lost`; return why that is not possible, or ""."""
        if lost:
            return lost
        try:
            pins.pin_program(self._object.link_fd(self._link))
        except OSError as error:
            return _why_unpinned(pins, error)
        return ""

    def _rule(self, opening: Opening) -> bytes:
        rule = np.zeros((), RULE)
        _aim(rule["target"], opening)
        rule["number"], rule["paths"] = opening.number, opening.paths
        rule["verb"] = ARM if opening.rule else LEAVE
        rule["owner"] = self._bits[opening.number] if opening.owner else 0
        if opening.rule:
            rule["wish"] = (opening.rule.idle or 0, opening.rule.interval, opening.rule.probes, 1)
        return rule.tobytes()


def _why_unpinned(pins: Pins, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"{pins.program}: {error.strerror}"
    return (
        f"{pins.program}: {error.strerror}; requires a BPF file system that may be written to, see the drop-in bpf.conf"
    )


def cgroup_root(root: Path) -> Path:
    """Return where cgroup v2 is mounted. Raises Unsupported."""
    for path in (root / each for each in ROOTS):
        if (path / "cgroup.controllers").exists():
            return path
    raise Unsupported("requires cgroup v2, mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified")


def _route(route: Route) -> bytes:
    record = np.zeros((), ROUTE)
    _aim(record["target"], route)
    record["below"], record["third"] = route.below, max(1, route.third)
    record["verb"], record["path"] = ARM if route.room else LEAVE, route.path
    return record.tobytes()


def _aim(record: Column, target: Route | Opening) -> None:
    """Fill in a struct target."""
    if target.network is not None:
        record["network"], record["mask"] = _network(target.network)
    record["port"] = target.port


def _network(network: IPNetwork) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return address and mask, each in two halves; IPv4 is v4-mapped."""
    if network.version == 4:
        number, bits = V4_MAPPED | int(network.network_address), 32 - network.prefixlen
    else:
        number, bits = int(network.network_address), 128 - network.prefixlen
    mask = WHOLE >> bits << bits
    return (number >> 64, number & HALF), (mask >> 64, mask & HALF)
