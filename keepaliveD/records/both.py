"""Both records together."""

from __future__ import annotations

from keepaliveD.model.dataclass import dataclass
from keepaliveD.records.arming import ArmingRecord
from keepaliveD.records.settings import SettingsRecord


@dataclass(frozen=True, slots=True)
class Records:
    """The records that must outlive this process: settings found, and sockets armed."""

    settings: SettingsRecord
    arming: ArmingRecord
