"""Both records together."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.model.dataclass import dataclass
from keepaliveD.platforms.base import Tuner
from keepaliveD.records.arming import PATIENCE, ArmingRecord
from keepaliveD.records.settings import SettingsRecord


@dataclass(frozen=True, slots=True)
class Records:
    """The records that must outlive this process: settings found, and sockets armed."""

    settings: SettingsRecord
    arming: ArmingRecord


def records_in(directory: Path, tuner: Tuner, patience: float = PATIENCE) -> Records:
    """Return what is kept in the state directory, which is made if need be when something is written.

    The arming record is waited for so many seconds, where another process has it locked.
    """
    identity = tuner.identity
    return Records(
        SettingsRecord(directory, identity, tuner.ranges), ArmingRecord(directory, identity["boot"], patience)
    )
