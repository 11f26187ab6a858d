"""What policy decides: data that says what is to be done or reported."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from keepaliveD.model.connections import Connection, Owner, Verdict
from keepaliveD.model.rules import ArmRule, Wish
from keepaliveD.model.sockets import Column, Unwatched


@dataclass(frozen=True, slots=True)
class FoundSettings:
    """The system's settings at one look. Keys are the kernel's names.

    `without_us` is what would stand if this program had never run.
    `troubles` are what is wrong with the settings record now, a line each.
    """

    stands: Mapping[str, int] = field(default_factory=dict)
    without_us: Mapping[str, int] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()


class Because(enum.Enum):
    """Why system settings are written."""

    CONFIGURED = "configured"
    DRIFT = "changed by someone else"
    RESTORE = "restored"


@dataclass(frozen=True, slots=True)
class SetSystemKeepalive:
    """Write these sysctls; `found` is what stands there now. Keys are the kernel's names.

    Nothing is said of those in `quiet`, nor of a refusal with one of the texts in `refused_before`.
    """

    values: Mapping[str, int]
    found: Mapping[str, int]
    because: Because
    quiet: frozenset[str] = frozenset()
    refused_before: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Repeat:
    """Something that happened `count` times within so many seconds; `last` is the value then."""

    count: int
    last: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """Report connections whose outlook changed.

    `before` is what was last told of each, `unsaid` how often it changed since then without a word.
    """

    connections: tuple[Connection, ...]
    before: tuple[Verdict, ...]
    unsaid: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ReadIdleTimes:
    """Read the idle time of sockets whose engine does not show it: rows of model.arming.TARGET, and their cgroups.

    `urgent`: a warning of some of them may be due already.
    """

    targets: Column
    cgroups: Column
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class ReportDrift:
    """Tell that somebody else wrote our sysctls, and that it is left so. `yielded`: for good."""

    wanted: Mapping[str, int]
    found: Mapping[str, int]
    yielded: bool


@dataclass(frozen=True, slots=True)
class ReportRewriter:
    """Tell that somebody else goes on writing our sysctls. `reapplied`: ours are set again each time."""

    wanted: Mapping[str, int]
    repeats: Mapping[str, Repeat]
    reapplied: bool


@dataclass(frozen=True, slots=True)
class ReportStricter:
    """Tell that settings stricter than those configured stand, and that these values are brought about instead."""

    configured: Mapping[str, int]
    kept: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReportNotRestored:
    """Tell that settings are not restored, because somebody else has set them since to what is found now."""

    found: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """Tell what is wrong with the settings record, a line each; none: nothing is any more."""

    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportUnwatched:
    """Report which network namespaces are not watched."""

    unwatched: Unwatched


@dataclass(frozen=True, slots=True)
class Arm:
    """Give each of these connections the keepalive of the first of `wishes` that its owner suits.

    By hand that is also done where somebody has set it since we armed it.
    `last` is false where those whose holders are not found will be asked for again.
    """

    connections: tuple[Connection, ...]
    wishes: tuple[Wish, ...]
    by_hand: bool = False
    last: bool = True


class Counted(NamedTuple):
    """How many sockets of one owner were armed at connect by one rule, since it was last asked."""

    rule: ArmRule
    owner: Owner
    sockets: int


@dataclass(frozen=True, slots=True)
class ReportArmed:
    """Report sockets that were armed at connect since the last scan."""

    counted: Counted


@dataclass(frozen=True, slots=True)
class Disarm:
    """Put back what stood in these sockets before they were armed; `because` is why, where nobody asked for it."""

    connections: tuple[Connection, ...]
    because: str = ""


Action = (
    SetSystemKeepalive
    | Arm
    | ReportArmed
    | Disarm
    | ReadIdleTimes
    | Report
    | ReportDrift
    | ReportRewriter
    | ReportStricter
    | ReportNotRestored
    | ReportRecord
    | ReportUnwatched
)
