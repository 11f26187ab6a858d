"""keepalivectl check: is the configuration valid, and what does it mean."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from keepaliveD.cli import arguments, report, running
from keepaliveD.config import doubts, load
from keepaliveD.model.errors import Unsupported
from keepaliveD.model.text import printable
from keepaliveD.places import DEFAULT_FILE
from keepaliveD.platforms import detect


def add_check(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl check`."""
    command.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="the configuration to check (default: what the running daemon reads, or else the one in /etc)",
    )
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.set_defaults(command=check_configuration)


def check_configuration(options: argparse.Namespace, root: Path) -> None:
    """Say that it is valid, and what it means; warnings go to standard error."""
    file, note = (options.file, "") if options.file else _file_of_daemon(root)
    config = load(file)
    if options.quiet:
        return
    with contextlib.suppress(Unsupported):  # a configuration can be checked anywhere
        config = config.within(detect(root=root).cloud())
    for line in report.meaning(config):
        print(line)
    for line in doubts.warnings(config):
        print(f"warning: {line}", file=sys.stderr)
    if note:
        print(f"note: {note}", file=sys.stderr)


def _file_of_daemon(root: Path) -> tuple[Path | None, str]:
    """Return the file that a running daemon reads, None if it is the usual one or none runs; and what to say of it."""
    pid = running.running(arguments.state_directory(), root)
    file = running.configuration(pid, root) if pid else None
    if file is None or file == DEFAULT_FILE:
        return None, ""
    if not os.access(file, os.R_OK):
        return None, f"the running daemon (process {pid}) reads {printable(str(file))}, which cannot be read here"
    return file, f"this is the file of the running daemon (process {pid}); to check another, name it"
