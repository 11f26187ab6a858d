"""keepalivectl status: show the settings, the units at risk, and what is wrong, from the daemon or without one."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import its_files, process, running, whose_view
from keepaliveD.cli.asking.asking import ask, control_socket, listens
from keepaliveD.cli.printing.fitting import terminal_width, wrapped
from keepaliveD.cli.starting import how_to_start
from keepaliveD.cli.status import overview
from keepaliveD.model.errors import Exit, KernelError, NoInput, NotPermitted, Refusal

NOT_RUNNING, NOT_KNOWN = 3, 4  # as the LSB has it for the status of a service, and systemctl(1)
LOOKS = 3  # at most, while daemons start and stop


def add_status(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl status`."""
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    arguments.add_config(command)
    arguments.add_state(command)
    command.set_defaults(command=print_status)


def print_status(options: argparse.Namespace, root: Path) -> int:
    """Print how the daemon is, or what its records and the kernel say where none can be asked.

    Return the exit status: that of systemctl status.
    """
    host, status = _host(options, root)
    if options.json:
        print(overview.as_json(host))
    else:
        for line in wrapped(overview.overview(host), terminal_width(), overview.LABEL):
            print(line)
    return status


def _host(options: argparse.Namespace, root: Path) -> tuple[overview.Host, int]:
    """Ask the daemon, which knows all of it; only where none answers, look. Return also the exit status.

    A daemon that starts or stops meanwhile is asked again: what was read before that is not what stands now.
    """
    for _ in range(LOOKS):
        try:
            return _of_daemon(options, root)
        except (NoInput, NotPermitted, KernelError) as refusal:
            pid = running.running(options.state_dir, root)
            found = _look(options, root, pid, refusal)
        if running.running(options.state_dir, root) == pid:
            break
    return found


def _of_daemon(options: argparse.Namespace, root: Path) -> tuple[overview.Host, int]:
    """Return what the daemon answers. Raises NoInput, NotPermitted, KernelError.

    Raises Misuse where it is not the one that is meant, which uses another state directory, and none uses that one.
    """
    answer = ask(control_socket(root), "Status")
    its = process.directory_of(listens(control_socket(root)), root)
    if its and its.resolve() != options.state_dir.resolve():
        raise its_files.elsewhere(options.state_dir, root) or NoInput("another daemon listens there")
    stop, reload = (how(answer["pid"], root) for how in (process.how_to_stop, process.how_to_reload))
    return overview.of_daemon(answer, stop, reload), Exit.OK


def _look(options: argparse.Namespace, root: Path, pid: int, refusal: Refusal) -> tuple[overview.Host, int]:
    """Return what there is to see without the daemon, which refused so; `pid` is as in `_without`."""
    from keepaliveD.cli.status import without_daemon

    why, status = _without(pid, root, refusal)
    other = "" if options.config else its_files.not_followed(options.state_dir, root)
    file = its_files.its_file(options, root)
    host = without_daemon.look(argparse.Namespace(**{**vars(options), "config": file}), root, why)
    host = dataclasses.replace(host, problems=(*filter(None, [other]), *host.problems))
    return dataclasses.replace(host, process=pid, stop=process.how_to_stop(pid, root)) if pid else host, status


def _without(pid: int, root: Path, refusal: Refusal) -> tuple[str, int]:
    """Return why no daemon was asked, and the exit status; `pid` is one that runs, 0 if none is seen."""
    hangs = isinstance(refusal, KernelError)
    if pid:
        return whose_view.why_not_asked(pid, root, refusal), NOT_KNOWN if hangs else Exit.OK
    if hangs or isinstance(refusal, NotPermitted):
        return str(refusal), NOT_KNOWN
    return f"none runs here; start it with {how_to_start(root)}", NOT_RUNNING
