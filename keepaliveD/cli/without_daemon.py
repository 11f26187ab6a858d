"""How this host is where no daemon can be asked: what its records and the kernel say, and one scan."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from keepaliveD.cli import overview, state
from keepaliveD.cli.columns import Group, grouped
from keepaliveD.cli.worker import in_worker
from keepaliveD.config import Config, defaults, load
from keepaliveD.daemon.settings import settings
from keepaliveD.model.errors import NotPermitted, Refusal
from keepaliveD.model.rules import Watching
from keepaliveD.model.snapshot import AtRisk, Setting
from keepaliveD.model.text import quoted
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import find_owners, scan
from keepaliveD.policy.activity import nothing_known
from keepaliveD.policy.connections import by_urgency
from keepaliveD.policy.judge import judge


def look(options: argparse.Namespace, root: Path, why: str) -> overview.Host:
    """Return what there is to see here; `why` no daemon was asked."""
    platform = detect(root=root)
    config, problems = _configuration(options)
    config = config.within(platform.cloud())
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, config.ignore)
    with in_worker(platform.open, watching) as asking:
        judgement = judge(asking(scan(time.monotonic())), nothing_known(), config.paths, config.ignore)
        at_risk = asking(find_owners(by_urgency(judgement, at_risk_only=True)))
    return overview.Host(
        daemon=None,
        why=why,
        settings=_settings(options, config, platform),
        applied=config.apply,
        engine=f"{judgement.table.engine_description} (of this scan by keepalivectl)",
        at_risk=[_at_risk(group) for group in grouped(at_risk)],
        total=len(judgement.table),
        pinned=_pinned(platform),
        problems=problems,
    )


def _configuration(options: argparse.Namespace) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration, or the built-in one with what is wrong with it: that must not hide all else."""
    try:
        return load(options.config), ()
    except Refusal as refusal:
        return defaults(), tuple(str(refusal).splitlines())


def _settings(options: argparse.Namespace, config: Config, platform: Platform) -> tuple[Setting, ...]:
    try:
        wanted = platform.tuner.names(config.keepalive)
    except Refusal:
        return ()
    return settings(wanted, platform.tuner, state.records(options, platform).settings)


def _at_risk(group: Group) -> AtRisk:
    one, owner = group.first, group.first.owner
    name = owner.container or owner.process  # anybody may choose these
    return AtRisk(
        owner.unit or (quoted(name) if name else ""),
        one.uid,
        group.verdict,
        len(group.connections),
        all(each.confirmed for each in group.connections),
        one.left,
    )


def _pinned(platform: Platform) -> str:
    try:
        return platform.at_connect.pinned()
    except NotPermitted:
        return ""
