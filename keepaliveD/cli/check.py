"""keepalivectl check: is the configuration valid, and what does it mean."""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import time
from pathlib import Path
from typing import NamedTuple

from keepaliveD.cli import arguments, report
from keepaliveD.cli.asking import its_files, running
from keepaliveD.cli.printing.fitting import tell
from keepaliveD.config import Config, doubts, load
from keepaliveD.daemon.worker.apart import Apart
from keepaliveD.model.errors import Exit, Misuse, Refusal, Unsupported
from keepaliveD.model.text import printable
from keepaliveD.places import DEFAULT_FILE
from keepaliveD.platforms import detect

PATIENCE = 10.0  # seconds for files, which may be on a file server
FORMAT = 1  # of the JSON; another number means that a key has another meaning, or is gone


def add_check(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl check`."""
    command.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="the configuration to check (default: as with --config)",
    )
    arguments.add_config(command)
    command.add_argument("--quiet", action="store_true", help="print only errors")
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    command.set_defaults(command=check_configuration)


class Read(NamedTuple):
    """What was read of a configuration: its file, if one was named, what to say of that, and what it is, or is not."""

    file: Path | None
    note: str
    config: Config | Refusal


def check_configuration(options: argparse.Namespace, root: Path) -> int:
    """Say that it is valid, and what it means; warnings go to standard error. Return the exit status."""
    if options.file and options.config:
        raise Misuse("FILE and --config name one file each; name one of them")
    named = options.file or options.config
    file, note, config = _read_apart(named, root)
    if isinstance(config, Refusal):
        if not options.json:
            raise config
        print(_as_json(file, note, config))
        return config.status
    with contextlib.suppress(Unsupported):  # a configuration can be checked anywhere
        config = config.within(detect(root=root).cloud())
    if options.json:
        print(_as_json(file, note, config))
    elif not options.quiet:
        _tell(config, note)
    return Exit.OK


def _read_apart(named: Path | None, root: Path) -> Read:
    """Read the configuration in a process of its own: nothing ends one that a file server keeps waiting, not Ctrl-C.

    Raises KernelError where it hangs.
    """
    apart = Apart(f"{printable(str(named or DEFAULT_FILE))}: cannot be read", time.monotonic, PATIENCE)
    apart.begin(lambda: _read(named, root))
    try:
        while not (reply := apart.reply()):
            select.select([apart], [], [], max(0.0, apart.due() - time.monotonic()))
            apart.prolong()  # while it works, however slowly
    finally:
        apart.abandon()
    if reply.error:
        raise reply.error
    read: Read = reply.value
    return read


def _read(named: Path | None, root: Path) -> Read:
    """Read the configuration; what is wrong with it is returned."""
    file, note = (named, "") if named else _file_of_daemon(root)
    try:
        return Read(file, note, load(file))
    except Refusal as refusal:
        return Read(file, note, refusal)


def _tell(config: Config, note: str) -> None:
    for line in report.meaning(config):
        print(line)
    for line in doubts.warnings(config):
        tell("warning", line)
    if note:
        tell("note", note)


def _as_json(file: Path | None, note: str, config: Config | Refusal) -> str:
    """Return the same as an object, a line each."""
    wrong = config if isinstance(config, Refusal) else None
    valid = config if isinstance(config, Config) else None
    told = {
        "version": FORMAT,
        "valid": valid is not None,
        "files": [printable(str(each)) for each in (valid.files if valid else [file or DEFAULT_FILE])],
        "errors": str(wrong).splitlines() if wrong else [],
        "warnings": list(doubts.warnings(valid)) if valid else [],
        "notes": [note] if note else [],
        "meaning": list(filter(None, report.meaning(valid))) if valid else [],
    }
    return json.dumps(told, indent=1)


def _file_of_daemon(root: Path) -> tuple[Path | None, str]:
    """Return the file that a daemon reads, or will read; None is the usual one. Return also what to say of it."""
    directory = its_files.state_directory(root)
    file, pid = its_files.file_for(directory, root), running.running(directory, root)
    if file is None:
        return None, its_files.not_followed(directory, root)
    whose = f"of the running daemon (process {pid})" if pid else "that script/run reads"
    return file, f"this is the file {whose}; to check another, name it"
