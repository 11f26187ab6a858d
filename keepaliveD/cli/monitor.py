"""keepalivectl monitor: what the daemon logs, as it comes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from syslog import LOG_WARNING
from typing import Any

from keepaliveD.cli.asking import its_files, running, whose_view
from keepaliveD.cli.asking.asking import control_socket, listen
from keepaliveD.cli.printing.fitting import terminal_width, wrapped
from keepaliveD.model.errors import NoInput
from keepaliveD.model.text import printable


def add_monitor(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl monitor`."""
    command.set_defaults(command=monitor)


def _entries(root: Path) -> Iterator[dict[str, Any]]:
    """Yield what the daemon logs. Raises NoInput, NotPermitted, KernelError."""
    try:
        yield from listen(control_socket(root), "Monitor")
    except NoInput as refusal:
        if pid := running.running(its_files.state_directory(root), root):
            raise NoInput(whose_view.why_not_asked(pid, root, refusal)) from refusal
        raise


def monitor(_options: argparse.Namespace, root: Path) -> None:
    """Print each entry of the daemon's log as it comes, until the daemon ends or Ctrl-C."""
    for entry in _entries(root):
        mark = "warning: " if entry["priority"] <= LOG_WARNING else ""
        now = f"{time.strftime('%H:%M:%S')} "
        first, *below = map(printable, entry["message"].splitlines() or [""])
        shown = wrapped([f"{now}{mark}{first}"], terminal_width(), len(now))
        print("\n".join((*shown, *(" " * len(now) + line for line in below))), flush=True)
