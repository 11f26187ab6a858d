"""keepalivectl metrics: for node_exporter's textfile collector, or whatever else reads Prometheus's text format."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from keepaliveD.cli import arguments, exposition, files
from keepaliveD.cli.asking import ask, control_socket
from keepaliveD.cli.worker import in_worker
from keepaliveD.config import load
from keepaliveD.daemon.settings import settings
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted
from keepaliveD.model.rules import Watching
from keepaliveD.platforms import detect
from keepaliveD.platforms.requests import find_owners, scan
from keepaliveD.policy.activity import nothing_known
from keepaliveD.policy.connections import by_urgency
from keepaliveD.policy.judge import judge


def add_metrics(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl metrics`."""
    command.add_argument(
        "--output", metavar="FILE", type=Path, help="write FILE, whole or not at all, instead of standard output"
    )
    arguments.add_config(command)
    command.set_defaults(command=print_metrics)


def print_metrics(options: argparse.Namespace, root: Path) -> None:
    """Scan once, ask the daemon if one runs, and print or write what came of it."""
    platform = detect(root=root)
    config = load(options.config).within(platform.cloud())
    watching = Watching(config.engine_by_hand, config.all_namespaces, config.selects_by_interface, config.ignore)
    with in_worker(platform.open, watching) as asking:
        began = time.monotonic()
        table = asking(scan(began))
        took = time.monotonic() - began
        judgement = judge(table, nothing_known(), config.paths, config.ignore)
        at_risk = asking(find_owners(by_urgency(judgement, at_risk_only=True)))
    try:
        daemon = ask(control_socket(root), "Status")
    except (NoInput, NotPermitted, KernelError):
        daemon = None
    wanted = platform.tuner.names(config.keepalive) if config.apply else {}
    text = exposition.text(
        [
            *exposition.of_scan(judgement, at_risk, took),
            *exposition.of_settings(settings(wanted, platform.tuner, None)),
            *exposition.of_daemon(daemon),
        ]
    )
    if options.output:
        files.write(options.output, text)
    else:
        print(text, end="")
