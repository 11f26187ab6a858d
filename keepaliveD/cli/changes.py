"""keepalivectl log: what was changed, when and by whom, from the journal."""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

from keepaliveD.cli.deaths import since
from keepaliveD.config.units import with_suffix
from keepaliveD.log import history
from keepaliveD.log.history import Record

SINCE = "1w"
NOTHING = "no entries about changes (the journal of the system is read by root and systemd-journal)"


def add_log(command: argparse.ArgumentParser) -> None:
    """The command line of `keepalivectl log`."""
    command.add_argument(
        "--since",
        metavar="TIME",
        type=since,
        default=SINCE,
        help="only changes since this date, or within this time span (default: %(default)s)",
    )
    command.add_argument(
        "--unit", metavar="UNIT", type=with_suffix, help="only changes of sockets of this systemd unit"
    )
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    command.set_defaults(command=print_log)


def print_log(options: argparse.Namespace, _root: Path, read: history.Reader | None = None) -> None:
    """Print what was changed. Raises Unsupported, NotPermitted."""
    records = history.changed(options.since, read)
    if options.unit:
        records = [record for record in records if record["UNIT"] == options.unit]
    if options.json:
        print(json.dumps([{"when": record.when, **record.fields} for record in records], indent=1))
        return
    for record in records:
        print(f"{_when(record)} {' '.join(record.fields.get('MESSAGE', '').split())}{_by(record)}")
    if not records:
        print(NOTHING)


def _when(record: Record) -> str:
    return datetime.datetime.fromtimestamp(record.when).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006  # local


def _by(record: Record) -> str:
    """Return who did it by hand."""
    return f" (by uid {record['BY_UID']})" if record["BY_UID"] else ""
