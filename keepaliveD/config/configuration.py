"""What the administrator wants: the configuration once it is checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path as File

from keepaliveD.config.catalogue import catalogue
from keepaliveD.model.causes import Cause
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import ArmRule, IPNetwork, OnDrift, Path

CLOUDS = {  # the preset with the shortest timeout of what connections there commonly pass
    "Google Compute Engine": "gcp-vpc",
    "Microsoft Azure": "azure-lb",
    "Amazon EC2": "aws-nat-gateway",
}


@dataclass(frozen=True, slots=True)
class Config:
    """What the administrator wants. Durations are seconds.

    The first of `paths` is the default one, the last of `arm` concerns all sockets; `files` are those that were read.
    """

    keepalive: Keepalive
    apply: bool
    restore_on_stop: bool
    on_drift: OnDrift
    keep_stricter: bool
    interval: float
    warn_before: float
    engine: str
    all_namespaces: bool
    ignore: tuple[IPNetwork, ...]
    paths: tuple[Path, ...]
    arm: tuple[ArmRule, ...]
    disarm_on_stop: bool
    survive_stop: bool
    autopsy: bool  # whether to find out what ended connections
    logged_causes: frozenset[Cause]
    logged_units: tuple[str, ...]
    logged_users: tuple[int, ...]
    everyone_reads: bool  # whether every user may ask the daemon
    enables: bool  # keepalive.arm = "enable", also where it is not in force for want of `apply`
    warns_as_usual: bool = True  # whether warn_before is the default
    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()  # what the files hold that has no effect, or another than it seems
    doubts: tuple[str, ...] = ()  # all warnings about it (doubts.py), once somebody has looked for them

    @property
    def selects_by_interface(self) -> bool:
        """Whether any path names an interface."""
        return any(path.interface for path in self.paths)

    def within(self, cloud: str) -> Config:
        """Return the same for a host in this cloud, whose factory default is a better guess than the shipped one."""
        default, *others = self.paths
        if default.origin.source is not Source.GUESS or cloud not in CLOUDS:
            return self
        timeout, origin = catalogue()[CLOUDS[cloud]].timeout, Origin(Source.PLATFORM, cloud)
        return dataclasses.replace(self, paths=(dataclasses.replace(default, timeout=timeout, origin=origin), *others))

    @property
    def engine_by_hand(self) -> str:
        """For somebody who looks once, perhaps without the daemon's privileges."""
        return "auto" if self.engine == "bpf" else self.engine
