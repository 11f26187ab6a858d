"""keepalivectl status and monitor: how the daemon and this host are, from the daemon or without one."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keepaliveD.cli import arguments, overview, running
from keepaliveD.cli.asking import ask, control_socket, listen
from keepaliveD.cli.columns import grouped
from keepaliveD.cli.worker import in_worker
from keepaliveD.config import Config, defaults, load
from keepaliveD.daemon.settings import settings
from keepaliveD.log.entries import WARNING
from keepaliveD.model.errors import NoInput, NotPermitted, Refusal
from keepaliveD.model.rules import Watching
from keepaliveD.model.snapshot import Setting
from keepaliveD.model.text import printable
from keepaliveD.platforms import detect
from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.requests import find_owners, scan
from keepaliveD.policy.activity import nothing_known
from keepaliveD.policy.connections import by_urgency
from keepaliveD.policy.judge import judge


def add_status(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl status`."""
    arguments.add_config(command)
    arguments.add_state(command)
    command.set_defaults(command=print_status)


def add_monitor(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl monitor`."""
    command.set_defaults(command=monitor)


def print_status(options: argparse.Namespace, root: Path) -> None:
    """Print how the daemon is, or what its records and the kernel say where none can be asked."""
    platform = detect(root=root)
    config, problems = _configuration(options)
    config = config.within(platform.cloud())
    daemon, why = None, ""
    try:
        daemon = ask(control_socket(root), "Status")
    except (NoInput, NotPermitted) as refusal:
        pid = running.running(options.state_dir, root)
        why = (
            f"process {pid} runs, but cannot be asked: {refusal}"
            if pid
            else "none runs here; systemctl start tcp-keepalived"
        )
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, config.ignore)
    with in_worker(platform.open, watching) as asking:
        judgement = judge(asking(scan(time.monotonic())), nothing_known(), config.paths, config.ignore)
        at_risk = asking(find_owners(by_urgency(judgement, at_risk_only=True)))
    host = overview.Host(
        daemon=daemon,
        why=why,
        settings=_settings(options, config, platform, daemon),
        applied=daemon["applied"] if daemon else config.apply,
        engine=judgement.table.engine_description,
        at_risk=grouped(at_risk),
        total=len(judgement.table),
        pinned="" if daemon else _pinned(platform),
        restores=config.restore_on_stop,
        problems=problems,
    )
    for line in overview.overview(host):
        print(line)


def _configuration(options: argparse.Namespace) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration, or the built-in one with what is wrong with it: that must not hide all else."""
    try:
        return load(options.config), ()
    except Refusal as refusal:
        return defaults(), tuple(str(refusal).splitlines())


def _settings(
    options: argparse.Namespace, config: Config, platform: Platform, daemon: Mapping[str, Any] | None
) -> tuple[Setting, ...]:
    if daemon:
        return tuple(Setting(*(one[name] for name in Setting._fields)) for one in daemon["settings"])
    try:
        wanted = platform.tuner.names(config.keepalive)
    except Refusal:
        return ()
    return settings(wanted, platform.tuner, arguments.records(options, platform).settings)


def _pinned(platform: Platform) -> str:
    try:
        return platform.at_connect.pinned()
    except NotPermitted:
        return ""


def monitor(_options: argparse.Namespace, root: Path) -> None:
    """Print each entry of the daemon's log as it comes, until the daemon ends or Ctrl-C."""
    for entry in listen(control_socket(root), "Monitor"):
        mark = "warning: " if entry["priority"] <= WARNING else ""
        print(f"{time.strftime('%H:%M:%S')} {mark}{printable(entry['message'])}", flush=True)
