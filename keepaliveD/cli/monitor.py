"""keepalivectl monitor: what the daemon logs, as it comes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from syslog import LOG_WARNING

from keepaliveD.cli.asking import control_socket, listen
from keepaliveD.model.text import printable


def add_monitor(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl monitor`."""
    command.set_defaults(command=monitor)


def monitor(_options: argparse.Namespace, root: Path) -> None:
    """Print each entry of the daemon's log as it comes, until the daemon ends or Ctrl-C."""
    for entry in listen(control_socket(root), "Monitor"):
        mark = "warning: " if entry["priority"] <= LOG_WARNING else ""
        print(f"{time.strftime('%H:%M:%S')} {mark}{printable(entry['message'])}", flush=True)
