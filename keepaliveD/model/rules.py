"""What an administrator configures of paths and of sockets to arm."""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass

from keepaliveD.model.connections import Verdict
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


class ArmAction(enum.Enum):
    """How far a rule goes with the sockets of other programs."""

    OBSERVE = "observe"  # nothing is touched
    REARM = "rearm"  # of those with keepalive on, timers that older settings had armed
    ENABLE = "enable"  # also switches keepalive on, and shortens what is too long


@dataclass(frozen=True, slots=True)
class ArmRule:
    """Which sockets of other programs are armed, and how. An empty selector matches everything.

    `units`, `processes`, `containers` and `paths` are patterns as in fnmatch(3).
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
