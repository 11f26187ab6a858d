"""keepalivectl check: is the configuration valid, and what does it mean."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from keepaliveD.cli import report
from keepaliveD.config import doubts, load
from keepaliveD.model.errors import Unsupported
from keepaliveD.platforms import detect


def add_check(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl check`."""
    command.add_argument(
        "file", metavar="FILE", nargs="?", type=Path, help="the configuration to check, instead of the one in /etc"
    )
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=check_configuration)


def check_configuration(options: argparse.Namespace, root: Path) -> None:
    """Say that it is valid, and what it means; warnings go to standard error."""
    config = load(options.file)
    if options.quiet:
        return
    with contextlib.suppress(Unsupported):  # a configuration can be checked anywhere
        config = config.within(detect(root=root).cloud())
    for line in report.meaning(config):
        print(line)
    for line in doubts.warnings(config):
        print(f"warning: {line}", file=sys.stderr)
