"""How this host is where no daemon can be asked: what its records and the kernel say, and one scan."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

from keepaliveD.cli.asking import its_files
from keepaliveD.cli.status import overview
from keepaliveD.cli.worker import Asking, by_single_scan, in_worker
from keepaliveD.config import Config, defaults, load
from keepaliveD.daemon.control.interface import by_verdict
from keepaliveD.daemon.control.metrics import of_scan, of_settings
from keepaliveD.daemon.settings import settings
from keepaliveD.log.words import own_namespace
from keepaliveD.model.errors import NotPermitted, Refusal
from keepaliveD.model.metric import Metric
from keepaliveD.model.rules import Watching
from keepaliveD.model.snapshot import Setting
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import find_units, scan
from keepaliveD.policy.verdicts.activity import nothing_known
from keepaliveD.policy.verdicts.at_risk import at_risk
from keepaliveD.policy.verdicts.connections import order_of_urgency
from keepaliveD.policy.verdicts.judge import Judgement, count, judge
from keepaliveD.policy.verdicts.totals import totals
from keepaliveD.records.both import records_in


def look(options: argparse.Namespace, root: Path, why: str) -> overview.Host:
    """Return what there is to see here; `why` no daemon was asked."""
    platform = detect(root=root)
    config, problems = _configuration(options)
    config = config.within(platform.cloud())
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, config.ignore)
    with in_worker(platform.open, watching) as asking:
        judgement = by_single_scan(judge(asking(scan(time.monotonic())), nothing_known(), config.paths, config.ignore))
        units = _units(judgement, asking)
    counts = count(judgement)
    return overview.Host(
        daemon=None,
        why=why,
        settings=_settings(options, config, platform),
        applied=config.apply,
        engine=f"{judgement.table.engine_description} (of this scan by keepalivectl)",
        at_risk=at_risk(judgement, units),
        connections={**by_verdict(counts), "guessed": counts.guessed},
        unwatched=judgement.table.unwatched._asdict(),
        netns=own_namespace(),
        pinned=_pinned(platform),
        problems=(*problems, *_damaged(options, platform)),
    )


def metrics(options: argparse.Namespace, root: Path) -> list[Metric]:
    """Return what one scan shows, and the system's settings. Raises Refusal."""
    platform = detect(root=root)
    config = load(its_files.its_file(options, root)).within(platform.cloud())
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, config.ignore)
    with in_worker(platform.open, watching) as asking:
        judgement = judge(asking(scan(time.monotonic())), nothing_known(), config.paths, config.ignore)
        units = _units(judgement, asking)
    wanted = platform.tuner.names(config.keepalive) if config.apply else {}
    return [
        *of_scan(totals(judgement), at_risk(judgement, units)),
        *of_settings(settings(wanted, platform.tuner, None)),
    ]


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
    return settings(wanted, platform.tuner, records_in(options.state_dir, platform.tuner).settings)


def _damaged(options: argparse.Namespace, platform: Platform) -> tuple[str, ...]:
    """Return what is wrong with the records, as far as they may be read here."""
    records = records_in(options.state_dir, platform.tuner)
    try:
        return (*records.settings.damaged(), *records.arming.damaged()) if records.settings.can_exist() else ()
    except Refusal:
        return ()


def _units(judgement: Judgement, asking: Asking) -> Mapping[int, str]:
    """Return the units of the cgroups with connections at risk."""
    rows = order_of_urgency(judgement, at_risk_only=True)
    cgroups = set(judgement.table.sockets["cgroup"][rows].tolist())  # np.unique() would load numpy.ma, for 20 ms
    return asking(find_units(sorted(cgroups)))


def _pinned(platform: Platform) -> str:
    try:
        return platform.at_connect.pinned()
    except NotPermitted:
        return ""
