"""keepalivectl status: how the daemon and this host are, from the daemon or without one."""

from __future__ import annotations

import argparse
from pathlib import Path

from keepaliveD.cli import arguments, overview, running
from keepaliveD.cli.asking import ask, control_socket
from keepaliveD.model.errors import NoInput, NotPermitted


def add_status(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl status`."""
    arguments.add_config(command)
    arguments.add_state(command)
    command.set_defaults(command=print_status)


def print_status(options: argparse.Namespace, root: Path) -> None:
    """Print how the daemon is, or what its records and the kernel say where none can be asked."""
    for line in overview.overview(_host(options, root)):
        print(line)


def _host(options: argparse.Namespace, root: Path) -> overview.Host:
    """Ask the daemon, which knows all of it; only where none answers, look."""
    try:
        return overview.of_daemon(ask(control_socket(root), "Status"))
    except (NoInput, NotPermitted) as refusal:
        pid = running.running(options.state_dir, root)
        why = (
            f"process {pid} runs, but cannot be asked: {refusal}"
            if pid
            else "none runs here; systemctl start tcp-keepalived"
        )
    from keepaliveD.cli import without_daemon

    return without_daemon.look(options, root, why)
