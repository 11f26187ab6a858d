"""What the commands that read the history have in common: which entries they read, and how these are shown."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import time
from collections.abc import Sequence

from keepaliveD.log.history import Record
from keepaliveD.model import duration
from keepaliveD.model.text import shown

SINCE = "1w"
DAYS = {"today": 0, "yesterday": 1}  # by their names, how long ago they began
MIDNIGHT = datetime.time()


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Describe the options that select entries by their time, and print them for programs."""
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=since,
        default=SINCE,
        help=f"only {what} since this date or time, such as yesterday, or within this time span (default: %(default)s)",
    )
    parser._negative_number_matcher = re.compile(r"-[0-9]")  # so that -2h is no option
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def since(text: str) -> float:
    """Return the instant of the epoch that words mean, as journalctl --since takes them (systemd.time(7))."""
    try:
        return max(0.0, time.time() - duration.parse(_ago(text)))
    except ValueError:
        pass
    try:
        return max(0.0, _instant(text.strip()))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f'{shown(text)} is no time; write "2026-11-28 14:00", "14:00", "yesterday", "2 hours ago" or "2h"'
        ) from None


def _ago(text: str) -> str:
    """Return the time span of "2h ago" and of "-2h"; a time span alone means the same."""
    stripped = text.strip()
    return stripped.removesuffix("ago") if stripped.endswith(" ago") else stripped.removeprefix("-")


def _instant(text: str) -> float:
    """Return the instant of a date, of a time of today, or of a day by its name. Raises ValueError, OverflowError."""
    now = datetime.datetime.now().astimezone()
    if text == "now":
        return now.timestamp()
    if text in DAYS:
        return _at(now.date() - datetime.timedelta(days=DAYS[text])).timestamp()
    if text.startswith("@"):
        return float(text[1:])
    if ":" in text and "-" not in text:
        return _at(now.date(), datetime.time.fromisoformat(text)).timestamp()
    return datetime.datetime.fromisoformat(text).timestamp()


def _at(day: datetime.date, clock: datetime.time = MIDNIGHT) -> datetime.datetime:
    """Return that time of a day by the clock of this host."""
    return datetime.datetime.combine(day, clock).astimezone()


def when(record: Record) -> str:
    """Return the local time of an entry."""
    return datetime.datetime.fromtimestamp(record.when).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006  # local


def as_json(records: Sequence[Record]) -> str:
    """Return an array of objects: the keys are those of the journal, in small letters and without the prefix.

    Besides them `when` is in seconds of the epoch, and `id` names the entry.
    """
    return json.dumps([_plain(record) for record in records], indent=1)


def _plain(record: Record) -> dict[str, object]:
    names = {name: name.removeprefix("KEEPALIVE_").lower() for name in record.fields}
    return {"id": record.id, "when": record.when} | {names[name]: record.fields[name] for name in sorted(record.fields)}
