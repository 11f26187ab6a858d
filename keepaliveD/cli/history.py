"""What the commands that read the history have in common: which entries they read, and how these are shown."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Sequence

from keepaliveD.log.history import Record
from keepaliveD.model import duration
from keepaliveD.model.text import shown

SINCE = "1w"


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Describe the options that select entries by their time, and print them for programs."""
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=since,
        default=SINCE,
        help=f"only {what} since this date, or within this time span (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def since(text: str) -> float:
    """Return the instant of the epoch that a date or a time span means."""
    try:
        return max(0.0, time.time() - duration.parse(text))
    except ValueError:
        pass
    try:
        return max(0.0, datetime.datetime.fromisoformat(text.strip()).timestamp())
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f'{shown(text)} is neither a date nor a time span; write "2026-11-28 14:00" or "2h"'
        ) from None


def nothing(about: str, *, of_journal: bool = True) -> str:
    """Return what to print where there are no entries, and who may read more if they are those of the journal."""
    others = of_journal and os.geteuid() != 0
    return f"no entries about {about}" + (
        " (the journal of the system is read by root and systemd-journal)" if others else ""
    )


def when(record: Record) -> str:
    """Return the local time of an entry."""
    return datetime.datetime.fromtimestamp(record.when).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006  # local


def as_json(records: Sequence[Record]) -> str:
    """Return an array of objects: the keys are those of the journal, in small letters and without the prefix."""
    return json.dumps([_plain(record) for record in records], indent=1)


def _plain(record: Record) -> dict[str, object]:
    names = {name: name.removeprefix("KEEPALIVE_").lower() for name in record.fields}
    return {"when": record.when} | {names[name]: record.fields[name] for name in sorted(record.fields)}
