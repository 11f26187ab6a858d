"""Say whose view is printed: a daemon may see more than somebody who looks once, with other privileges."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from keepaliveD.cli.asking import its_files, running
from keepaliveD.cli.asking.asking import control_socket
from keepaliveD.cli.printing.fitting import tell
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted, Refusal

Answer = TypeVar("Answer")

BY_ITSELF = ("scan", "all", "config", "platform")  # options with which a command does not ask the daemon


def note_running_daemon(directory: Path, root: Path, what: str) -> None:
    """Say on standard error whose view was printed, where a daemon has another; `what` was printed."""
    if pid := running.running(directory, root):
        tell("note", f"{_beside_daemon(pid, what)}; keepalivectl status shows what the daemon uses")


def answer_or_why(ask: Callable[[], Answer], directory: Path, root: Path) -> tuple[Answer | None, str]:
    """Return what a daemon answers, or why it cannot be asked: then a command looks for itself."""
    try:
        return ask(), ""
    except (NoInput, NotPermitted, KernelError) as refusal:
        try:
            pid = running.running(directory, root)
        except (NotPermitted, KernelError) as untold:
            return None, str(untold)
        if pid:
            return None, why_not_asked(pid, root, refusal)
        return None, "no tcp-keepalived runs here" if isinstance(refusal, NoInput) else str(refusal)


def whose_scan(options: argparse.Namespace, root: Path, why: str, engine: str) -> str:
    """Return whose view is printed, after `why` no daemon was asked: a scan by this engine.

    Where a scan was asked for, the options that did so are named, or nothing if there is no daemon. Why the engine is
    not a better one is left to keepalivectl engine.
    """
    said = f"this list is a single scan by keepalivectl ({engine.partition(' (')[0]})"
    if why:
        other = "" if options.config else its_files.not_followed(options.state_dir, root)
        return "; ".join(filter(None, (why, said, other)))
    given = " and ".join(f"--{name}" for name in BY_ITSELF if getattr(options, name, None))
    pid = running.running(options.state_dir, root)
    return f"{_beside_daemon(pid, said)}; for the daemon's view leave {given} out" if pid else ""


def why_not_asked(pid: int, root: Path, refusal: Refusal) -> str:
    """Return why a daemon that runs cannot be asked, and how it could be."""
    path = control_socket(root)
    why = f"{path}: it does not listen there; start it with RUNTIME_DIRECTORY={path.parent}"
    return f"process {pid} runs, but cannot be asked: {why if isinstance(refusal, NoInput) else refusal}"


def _beside_daemon(pid: int, what: str) -> str:
    """Return whose view is printed, where a daemon has another; `what` is printed."""
    return f"tcp-keepalived is running (process {pid}) and may know more: {what}"
