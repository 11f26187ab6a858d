"""How the daemon is: what the service manager shows of it, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from keepaliveD.model.autopsy import Tally
from keepaliveD.model.connections import Counts
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.results import ArmingResult


@dataclass(frozen=True, slots=True)
class Status:
    """How the daemon is. `keepalive` is what is applied, None if the system is left alone.

    `kept` are stricter settings that stand in place of some that were to be applied; `refused` could not be applied,
    with the reasons.
    `complaint`: what is wrong with the configuration that a reload refused. `blind`: why connections are not watched.
    `suspended`: for how long arming has been suspended, and why. `troubles`: what is wrong with the records.
    """

    counts: Counts
    keepalive: Keepalive | None
    kept: Mapping[str, int]
    dry_run: bool = False
    complaint: str = ""
    blind: str = ""
    suspended: str = ""
    results: Mapping[ArmingResult, int] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    troubles: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
