"""What an administrator configures, as the decider follows it: settings, paths, sockets to arm."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keepaliveD.model.causes import Cause
from keepaliveD.model.connections import Verdict, WhatCounts
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.origin import Origin

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Path:
    """What lies between this host and others: whom it concerns, and when it forgets.

    `timeout` is in seconds, FOREVER for a path that does not forget; `origin` says where that comes from.
    An empty selector matches everything.
    """

    name: str
    timeout: float
    origin: Origin
    networks: tuple[IPNetwork, ...] = ()
    ports: tuple[int, ...] = ()
    interface: str = ""
    counts: WhatCounts = WhatCounts.PACKETS


class ArmAction(enum.Enum):
    """How far a rule goes with the sockets of other programs."""

    OBSERVE = "observe"  # nothing is touched
    REARM = "rearm"  # of those with keepalive on, timers that older settings had armed
    ENABLE = "enable"  # also switches keepalive on, and shortens what is too long


@dataclass(frozen=True, slots=True)
class ArmRule:
    """Which sockets of other programs are armed, and how. An empty selector matches everything.

    `units`, `processes`, `containers` and `paths` are patterns as in Python's fnmatch.
    Without `idle` it is the longest that fits the path.
    """

    name: str
    action: ArmAction
    idle: int | None
    interval: int
    probes: int
    units: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    users: tuple[int, ...] = ()
    networks: tuple[IPNetwork, ...] = ()
    ports: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def asks_for_owner(self) -> bool:
        """Whether one must know who holds a socket to tell if it is meant."""
        return bool(self.units or self.processes or self.containers)


@dataclass(frozen=True, slots=True)
class Wish:
    """A rule that concerns a connection, if its owner is one that the rule means; with the times to set."""

    rule: ArmRule
    times: Keepalive


class OnDrift(enum.Enum):
    """What to do when somebody else writes a setting of ours."""

    REAPPLY = "reapply"
    YIELD = "yield"
    WARN = "warn"


class Roles(NamedTuple):
    """The names of the system's settings by their roles: idle time, interval, probes; empty if it has none."""

    idle: str
    interval: str = ""
    probes: str = ""


class Watching(NamedTuple):
    """How sockets are to be read.

    `with_interfaces` fills the column `interface`, which costs a reading of the addresses.
    Sockets whose peers are in `ignore` may be left out.
    """

    engine: str = "auto"
    all_namespaces: bool = True
    with_interfaces: bool = False
    ignore: Sequence[IPNetwork] = ()


EVERYTHING = Watching()
SHIPPED = Keepalive(180, 20, 31)


@dataclass(frozen=True, slots=True)
class Rules:
    """All that the decider follows. Durations are seconds.

    `wanted` are the system settings to apply, in the kernel's names and numbers, which bring about `keepalive`;
    both are empty if none are applied. `roles` are the roles of the settings if stricter settings that stand are
    kept, else None. The first rule in `arm` that matches a socket applies, and the last one matches all.
    `doubts` are warnings about the configuration, a line each; `products` are usual idle timeouts. `autopsy`: whether
    to find out what ended connections; all ends are counted, and those are reported that have one of
    `logged_causes` and belong to one of `logged_units` (patterns) and `logged_users`, which match all if empty.
    `everyone_reads`: whether every user may ask the daemon how things are, and not only its group.
    """

    wanted: Mapping[str, int]
    on_drift: OnDrift
    paths: Sequence[Path]
    ignore: Sequence[IPNetwork]
    warn_before: float
    arm: Sequence[ArmRule] = ()
    roles: Roles | None = None
    keepalive: Keepalive | None = None
    interval: float = 15.0
    watching: Watching = EVERYTHING
    restore_on_stop: bool = True
    disarm_on_stop: bool = False
    survive_stop: bool = False
    doubts: tuple[str, ...] = ()
    products: tuple[float, ...] = ()
    configured: Keepalive = SHIPPED  # applied or not
    autopsy: bool = False
    logged_causes: frozenset[Cause] = frozenset()
    logged_units: tuple[str, ...] = ()
    logged_users: tuple[int, ...] = ()
    everyone_reads: bool = False
