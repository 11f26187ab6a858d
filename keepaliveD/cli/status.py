"""keepalivectl status: how the daemon and this host are, from the daemon or without one."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from keepaliveD.cli import arguments, overview, running
from keepaliveD.cli.asking import ask, control_socket
from keepaliveD.cli.fitting import terminal_width, wrapped
from keepaliveD.model.errors import NoInput, NotPermitted


def add_status(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl status`."""
    arguments.add_config(command)
    arguments.add_state(command)
    command.set_defaults(command=print_status)


def print_status(options: argparse.Namespace, root: Path) -> None:
    """Print how the daemon is, or what its records and the kernel say where none can be asked."""
    for line in wrapped(overview.overview(_host(options, root)), terminal_width(), overview.LABEL):
        print(line)


def _host(options: argparse.Namespace, root: Path) -> overview.Host:
    """Ask the daemon, which knows all of it; only where none answers, look."""
    try:
        answer = ask(control_socket(root), "Status")
        return overview.of_daemon(answer, running.how_to_stop(answer["pid"], root))
    except (NoInput, NotPermitted) as refusal:
        pid = running.running(options.state_dir, root)
        why = running.why_not_asked(pid, root, refusal) if pid else "none runs here; systemctl start tcp-keepalived"
    from keepaliveD.cli import without_daemon

    options.config = running.its_file(options, root)
    host = without_daemon.look(options, root, why)
    return dataclasses.replace(host, process=pid, stop=running.how_to_stop(pid, root)) if pid else host
