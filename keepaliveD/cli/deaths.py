"""keepalivectl deaths: which connections ended, of what, and what would have prevented it."""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from keepaliveD.config.units import with_suffix
from keepaliveD.log import history
from keepaliveD.log.entries.deaths import EXPLANATIONS, confidence_words
from keepaliveD.log.history import Record
from keepaliveD.model import duration
from keepaliveD.model.causes import BY_KEY, FORETOLD, Cause, Foretold
from keepaliveD.model.errors import NoInput
from keepaliveD.model.text import quoted, shown
from keepaliveD.policy.deaths import OBSERVATIONS

NEWEST = 20  # entries that are listed one by one
SINCE = "1w"
GROUPS = ("COUNT", "LAST", "CAUSE", "FORETOLD", "UNIT", "PATH")
SINGLE = ("N", "WHEN", "CAUSE", "SURE", "LOCAL", "REMOTE", "PROCESS", "UNIT")
GAP = "  "
OTHERS = {cause.key: cause for cause in Cause}
ANSWERS = {foretold.key: foretold for foretold in Foretold}


def add_deaths(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="only connections of this systemd unit, or with this address of the peer",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=since,
        default=SINCE,
        help="only those that ended since this date, or within this time span (default: %(default)s)",
    )
    parser.add_argument(
        "--explain", metavar="NUMBER", type=_number, help="show all that was seen of the one with this number"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(command=show)


def show(options: argparse.Namespace, _root: Path, read: history.Reader | None = None) -> None:
    """Print what ended. Raises Unsupported, NotPermitted, NoInput."""
    records = [record for record in history.ended(options.since, read) if _concerns(record, options.target)]
    if options.explain is not None:
        if options.explain > len(records):
            raise NoInput(
                f"--explain {options.explain}: there are only {len(records)} entries; see keepalivectl deaths"
            )
        records = records[options.explain - 1 : options.explain]
    if options.json:
        print(json.dumps([_plain(record) for record in records], indent=1))
    elif options.explain is not None:
        print("\n".join(explanation(records[0])))
    else:
        print("\n".join(overview(records)))


def overview(records: Sequence[Record]) -> Iterator[str]:
    """Yield the groups of what ended alike, then the newest entries one by one."""
    if not records:
        yield "no entries about ended connections (the journal of the system is read by root and systemd-journal)"
        return
    yield from _table(GROUPS, _groups(records))
    yield ""
    rows = [(str(number), *_cells(record)) for number, record in enumerate(records[:NEWEST], start=1)]
    yield from _table(SINGLE, rows)
    if more := len(records) - NEWEST:
        yield f"and {more} older" if more > 0 else ""
    yield "keepalivectl deaths --explain N shows all that was seen of entry N"


def explanation(record: Record) -> Iterator[str]:
    """Yield all that is known of one entry, in plain lines."""
    cause = BY_KEY.get(record["CAUSE"], Cause.UNKNOWN)
    others = [OTHERS[key] for key in record["OTHER_CAUSES"].split() if key in OTHERS]
    yield f"{_when(record)} {record.fields.get('MESSAGE', '')}"
    yield ""
    yield f"cause: {cause.label} ({confidence_words(_number_in(record['CONFIDENCE']), others)})"
    yield f"  {EXPLANATIONS[cause]}"
    for line in record["EVIDENCE"].splitlines():
        yield f"  seen: {line}"
    for other in others:
        yield f"  or: {other.label}; what would tell: {OBSERVATIONS.get((cause, other), 'nothing on this host')}"
    foretold = ANSWERS.get(record["FORETOLD"], Foretold.NOT_FORESEEABLE)
    warned = f", {duration.span(_number_in(record['WARNED_SEC']))} before" if record["WARNED_SEC"] else ""
    yield f"forecast: {FORETOLD[foretold]}{warned}"
    yield "remedy:"
    for line in record["REMEDY"].splitlines():
        yield f"  {line}".rstrip()


def _groups(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Return a row for each cause, unit and path, the most frequent first."""
    counts: Counter[tuple[str, ...]] = Counter()
    newest: dict[tuple[str, ...], str] = {}
    for record in records:
        key = record["CAUSE"], record["FORETOLD"], record["UNIT"] or "-", record["PATH"]
        counts[key] += record.count
        newest.setdefault(key, _when(record))
    return [(str(count), newest[key], *key) for key, count in counts.most_common()]


def _cells(record: Record) -> tuple[str, ...]:
    process = f"{quoted(record['PROCESS'])}[{record['PID']}]" if record["PID"] else "-"
    sure = confidence_words(_number_in(record["CONFIDENCE"]), record["OTHER_CAUSES"])
    cause = record["CAUSE"] + (f" at hop {record['HOP']}" if record["HOP"] else "")
    if record["COUNT"]:
        return _when(record), cause, sure, f"{record['COUNT']} connections", "-", "-", record["UNIT"] or "-"
    return _when(record), cause, sure, _end(record, "LOCAL"), _end(record, "REMOTE"), process, record["UNIT"] or "-"


def _end(record: Record, side: str) -> str:
    address, port = record[f"{side}_ADDRESS"], record[f"{side}_PORT"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _table(headings: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        yield GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _plain(record: Record) -> dict[str, object]:
    """Return an entry as one object: the keys are those of the journal, in small letters and without the prefix."""
    names = {name: name.removeprefix("KEEPALIVE_").lower() for name in record.fields}
    return {"when": record.when} | {names[name]: record.fields[name] for name in sorted(record.fields)}


def _concerns(record: Record, target: str | None) -> bool:
    if target is None:
        return True
    try:
        return record["REMOTE_ADDRESS"] == str(ipaddress.ip_address(target.strip("[]")))
    except ValueError:
        return record["UNIT"] == with_suffix(target)


def _when(record: Record) -> str:
    return datetime.datetime.fromtimestamp(record.when).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006  # local


def _number_in(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a number; write 1 for the newest entry")
    return int(text)


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
