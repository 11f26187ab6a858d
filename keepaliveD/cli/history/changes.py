"""keepalivectl log: what was changed, when and by whom, from the journal."""

from __future__ import annotations

import argparse
from pathlib import Path

from keepaliveD.cli.asking.its_files import its_log, state_directory
from keepaliveD.cli.history.history import add_options, as_json, when
from keepaliveD.cli.printing.fitting import say
from keepaliveD.cli.targets.nearest import did_you_mean
from keepaliveD.config.units import with_suffix
from keepaliveD.log import history
from keepaliveD.log.history import Record
from keepaliveD.model.errors import Unsupported
from keepaliveD.model.text import printable

ELSEWHERE = "a daemon that logs elsewhere writes none there: see keepalivectl status, or its log"


def add_log(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl log`."""
    add_options(command, "changes")
    command.add_argument(
        "--unit", metavar="UNIT", type=with_suffix, help="only changes of sockets of this systemd unit"
    )
    command.set_defaults(command=print_log)


def print_log(options: argparse.Namespace, root: Path, read: history.Reader | None = None) -> None:
    """Print what was changed. Raises Unsupported, which names the log to read instead, and NotPermitted."""
    try:
        changed = history.changed(options.since, read)
    except Unsupported as refusal:
        said = f"log requires the systemd journal: {history.without_introduction(refusal)}"
        raise Unsupported(f"{said}; {its_log(state_directory(root), root)}") from refusal
    records = [record for record in changed if options.unit in (None, record["UNIT"])]
    if options.json:
        print(as_json(records))
        return
    lines = (f"{when(record)} {' '.join(record.fields.get('MESSAGE', '').split())}{_by(record)}" for record in records)
    for line in lines:
        say(line)
    if not records:
        of_unit = f" of {printable(options.unit)}" if options.unit else ""
        near = did_you_mean(options.unit, [record["UNIT"] for record in changed]) if options.unit else ""
        say(f"no entries about changes{of_unit} in the journal; {ELSEWHERE}{near}")


def _by(record: Record) -> str:
    """Return who did it by hand."""
    return f" (by uid {record['BY_UID']})" if record["BY_UID"] else ""
