"""keepalivectl metrics: for Prometheus, which asks by HTTP, or for node_exporter's textfile collector."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from keepaliveD.cli import arguments, files
from keepaliveD.cli.asking.asking import ask, control_socket
from keepaliveD.cli.metrics import exposition
from keepaliveD.cli.metrics.listening import WHERE, where
from keepaliveD.model.errors import KernelError, Misuse, NoInput
from keepaliveD.model.metric import Metric


def add_metrics(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl metrics`."""
    purpose = command.add_mutually_exclusive_group()
    purpose.add_argument(
        "--output", metavar="FILE", type=Path, help="write FILE, whole or not at all, instead of standard output"
    )
    purpose.add_argument(
        "--listen",
        metavar="WHERE",
        type=where,
        help=f"serve the metrics of the daemon by HTTP; WHERE is {WHERE}",
    )
    arguments.add_config(command)
    command.set_defaults(command=print_metrics)


def print_metrics(options: argparse.Namespace, root: Path) -> None:
    """Print, write or serve what the daemon answers; where none does, print or write what one scan shows."""
    if options.listen:
        from keepaliveD.cli.metrics import scraped

        if options.config:
            raise Misuse("--config: only the daemon is asked with --listen; leave it out")
        return scraped.serve(options.listen, control_socket(root))
    text = exposition.text(_metrics(options, root))
    if options.output:
        files.write(options.output, text)
    else:
        print(text, end="")
    return None


def _metrics(options: argparse.Namespace, root: Path) -> Sequence[Metric]:
    try:
        daemon = ask(control_socket(root), "Metrics")
    except (NoInput, KernelError):
        from keepaliveD.cli.status import without_daemon

        return [exposition.up(answers=False), *without_daemon.metrics(options, root)]
    return [exposition.up(answers=True), *exposition.answered(daemon)]
