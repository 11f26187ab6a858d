"""The files of the daemon that runs, or will: the configuration, the records and the log that a command goes by."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from pathlib import Path

from keepaliveD.cli import arguments
from keepaliveD.cli.asking import process, running
from keepaliveD.cli.asking.asking import control_socket, listens
from keepaliveD.cli.asking.process import STATE_VARIABLE
from keepaliveD.cli.starting import file_to_be_read
from keepaliveD.model.errors import KernelError, Misuse, NoInput, NotPermitted, Refusal
from keepaliveD.model.text import printable
from keepaliveD.places import DEFAULT_FILE


def state_directory(root: Path) -> Path:
    """Return the directory of the records by default: that of the daemon that answers, if it can be told.

    Without such a daemon, and where STATE_DIRECTORY is set, it is the same as the daemon's own default.
    """
    usual = arguments.state_directory()
    if os.environ.get(STATE_VARIABLE):
        return usual
    with contextlib.suppress(NoInput, NotPermitted, KernelError):
        return process.directory_of(listens(control_socket(root)), root) or usual
    return usual


def elsewhere(directory: Path, root: Path) -> Refusal | None:
    """Return what to refuse where the daemon that answers keeps its records elsewhere, or may; None where it does not.

    Whoever finds nothing in a directory must not say that there is nothing, if a daemon keeps it in another one.
    """
    if running.running(directory, root):
        return None
    try:
        pid = listens(control_socket(root))
    except NoInput:
        return None
    except (NotPermitted, KernelError) as refusal:
        return refusal
    its = process.directory_of(pid, root) if pid else None
    if its is None:
        what = f"the state directory of the daemon (process {pid or 'of another PID namespace'})"
        return NotPermitted(f"{what} cannot be told here, and it may not be {printable(str(directory))}: run as root")
    if its.resolve() == directory.resolve():
        return None
    return Misuse(f"the daemon (process {pid}) uses another state directory: give --state-dir {printable(str(its))}")


def followed(directory: Path, root: Path) -> Path | None:
    """Return the file that a running daemon reads, if it is another one than the usual, and can be read here."""
    pid = running.running(directory, root)
    file = process.configuration(pid, root) if pid else None
    return file if file and file != DEFAULT_FILE and os.access(file, os.R_OK) else None


def file_for(directory: Path, root: Path) -> Path | None:
    """Return the file that a daemon reads, or will read once it is started; None is the usual one."""
    return followed(directory, root) if running.running(directory, root) else file_to_be_read(root)


def its_file(options: argparse.Namespace, root: Path) -> Path | None:
    """Return the file of --config, or else what a daemon reads, or will read; None is the usual one."""
    given: Path | None = options.config
    return given or file_for(getattr(options, "state_dir", None) or state_directory(root), root)


def not_followed(directory: Path, root: Path) -> str:
    """Return that a running daemon reads another configuration than is read here, or may; "" where it is the same."""
    pid = running.running(directory, root)
    file = process.configuration(pid, root) if pid else DEFAULT_FILE
    if file == DEFAULT_FILE:
        return ""
    here = DEFAULT_FILE if (root / DEFAULT_FILE.relative_to("/")).exists() else "the built-in defaults"
    if file is None:
        return f"this follows {here}, but the daemon (process {pid}) may read another file; run as root to see which"
    if os.access(file, os.R_OK):
        return ""
    return f"this follows {here}, but the daemon (process {pid}) reads {printable(str(file))}; run as root to read it"


def its_log(directory: Path, root: Path) -> str:
    """Return where a running daemon writes its log, as far as that can be seen."""
    pid = running.running(directory, root)
    if not pid:
        return "no daemon runs now whose own log could be read"
    try:
        words = (root / f"proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        leads_to = os.readlink(root / f"proc/{pid}/fd/2")
    except OSError:
        return f"root sees where the daemon (process {pid}) writes its own log"
    if "--log-format=syslog" in words or ("--log-format", "syslog") in itertools.pairwise(words):
        leads_to = "syslog"
    elif not leads_to.startswith("/"):
        leads_to = f"a {leads_to.partition(':')[0]} of the program that started it"
    return f"the daemon (process {pid}) writes its own log to {printable(leads_to)}"
