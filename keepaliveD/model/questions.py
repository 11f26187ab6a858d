"""What clients of the control socket ask of the decider, and who they are."""

from __future__ import annotations

from typing import NamedTuple

from keepaliveD.model.dataclass import dataclass


class Asker(NamedTuple):
    """Who asks, by the number of the question; `process` is the one that has connected."""

    ticket: int
    user: int
    process: int


@dataclass(frozen=True, slots=True)
class ArmThis:
    """Arm the connection with this cookie, as a person does; what is None is as configured, idle as fits the path."""

    cookie: int
    idle: int | None = None
    interval: int | None = None
    probes: int | None = None


@dataclass(frozen=True, slots=True)
class DisarmThis:
    """Put back what stood in the socket with this cookie."""

    cookie: int


@dataclass(frozen=True, slots=True)
class ExplainThese:
    """Explain the connections with one of these cookies, inodes, units (patterns as in Python's fnmatch) or ends.

    An end is an address as columns have it, IPv4 mapped, and a port.
    """

    cookies: tuple[int, ...] = ()
    inodes: tuple[int, ...] = ()
    units: tuple[str, ...] = ()
    ends: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ReloadNow:
    """Follow the configuration as it is now."""


@dataclass(frozen=True, slots=True)
class ScanNow:
    """Scan, so that what was changed is seen."""


@dataclass(frozen=True, slots=True)
class RecordNow:
    """Write into the arming record what was armed at connect, so that others find it there."""


@dataclass(frozen=True, slots=True)
class MeasuringThese:
    """Count the ends of connections with these cookies apart: they measure a path, and exist to be forgotten."""

    cookies: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RestoreThese:
    """Restore these settings of the system, or all, and leave them so until the next reload."""

    settings: frozenset[str] | None = None


Question = ArmThis | DisarmThis | ExplainThese | MeasuringThese | ReloadNow | ScanNow | RecordNow | RestoreThese
