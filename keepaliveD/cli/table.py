"""Connections as a table for people, or as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Sequence

from keepaliveD.model.connections import Connection, Due, Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER, span
from keepaliveD.model.text import printable

HEADINGS = ("VERDICT", "LEFT", "IDLE", "NEXT PACKET", "KEEPALIVE", "LOCAL", "REMOTE", "PROCESS", "UNIT", "PATH")
COLOURS = {Verdict.SAFE: "32", Verdict.LATE: "33", Verdict.BARE: "33", Verdict.CUT: "31"}
GAP = "  "


def for_people(connections: Iterable[Connection]) -> str:
    """The table as it suits standard output: a terminal has a width, and colours."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else float("inf")
    return render(connections, width, colour=terminal and "NO_COLOR" not in os.environ)


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Any table as it suits standard output."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else float("inf")
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return "\n".join(_line(row, widths, width) for row in (headings, *rows))


def render(connections: Iterable[Connection], width: float, *, colour: bool) -> str:
    """The table; lines are cut at `width` columns, the verdict is coloured where that is wanted."""
    rows = [(connection.verdict, _cells(connection)) for connection in connections]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *(cells for _, cells in rows), strict=True)]
    lines = [_line(HEADINGS, widths, width)]
    for verdict, cells in rows:
        line = _line(cells, widths, width)
        if colour and verdict in COLOURS:
            word = len(cells[0])
            line = f"\x1b[{COLOURS[verdict]}m{line[:word]}\x1b[0m{line[word:]}"
        lines.append(line)
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], width: float) -> str:
    line = GAP.join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True)).rstrip()
    return line if len(line) <= width else line[: int(width) - 1] + ">"


def _cells(connection: Connection) -> tuple[str, ...]:
    owner = connection.owner
    return (
        connection.verdict.label + ("" if connection.confirmed else "?"),
        "-" if math.isnan(connection.left) else span(connection.left),
        "-" if math.isnan(connection.idle) else span(connection.idle),
        _next_packet(connection),
        connection.keepalive.value + (" (MPTCP)" if connection.subflow else ""),
        str(connection.local),
        str(connection.remote),
        f"{printable(owner.process)}[{owner.pid}]" if owner.pid else "-",
        owner.unit or "-",
        connection.path,
    )


def _next_packet(connection: Connection) -> str:
    if connection.due is Due.NOTHING:
        return "no data" if connection.counts is WhatCounts.DATA else "none"
    if connection.due is Due.END:
        return f"none: ends in {span(max(0.0, connection.due_in))}"
    return f"{connection.due.label} in {span(max(0.0, connection.due_in))}"


def as_json(connections: Iterable[Connection]) -> str:
    """An array of objects; times are seconds, null is unknown or never."""
    return json.dumps([_plain(connection) for connection in connections], indent=1)


def _plain(connection: Connection) -> dict[str, object]:
    plain = dataclasses.asdict(connection)
    plain |= {
        "verdict": connection.verdict.label,
        "due": connection.due.label,
        "keepalive": connection.keepalive.value,
        "counts": connection.counts.value,
        "origin": {"source": connection.origin.source.value, "detail": connection.origin.detail},
    }
    return {key: _number(value) for key, value in plain.items()}


def _number(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) and value != FOREVER else None
    return value
