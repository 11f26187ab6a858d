"""Connections as a table for people, or as JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from keepaliveD.cli.printing.columns import EACH, GROUPS, MORE, Column, Group
from keepaliveD.cli.printing.fitting import INDENT, terminal_width, wrapped
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.plain import plain

HEADINGS = tuple(dict.fromkeys([each.heading for each in GROUPS] + [each.heading for each in (*EACH, *MORE)]))
COLOURS = {Verdict.SAFE: "32", Verdict.LATE: "33", Verdict.BARE: "33", Verdict.CUT: "31"}
GAP = "  "
NOTHING = "-"  # in a cell
CUT = ">"  # the end of what was too long
FORMAT = 1  # of the JSON; another number means that a key has another meaning, or is gone


Shown = TypeVar("Shown", bound=Connection | Group)


def for_people(connections: Iterable[Connection]) -> str:
    """The table of connections as it suits standard output: a terminal has a width, and colours."""
    return shown(list(connections), EACH)


def columns(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    ranks: Sequence[int] = (),
    shortest: int = 0,
    option: str = "",
) -> str:
    """Any table as it suits standard output; with `ranks`, without those of the lowest that do not fit.

    A column in which nothing is known goes first. The last one may be cut to `shortest` characters, if that is not 0.
    What is left out is said below, with the `option` that shows it, if there is one.
    """
    width = terminal_width()
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    least = [*widths[:-1], min(widths[-1], shortest or widths[-1])]
    kept = list(range(len(headings)))
    while ranks and len(kept) > 1 and _total([least[number] for number in kept]) > width:
        kept.remove(min(kept, key=lambda number: (any(row[number] != NOTHING for row in rows), ranks[number])))
    lines = ([row[number] for number in kept] for row in (headings, *rows))
    made = [_line(cells, [widths[number] for number in kept], width) for cells in lines]
    return "\n".join([*made, *_left_out(headings, kept, width, option)])


def shown(
    rows: Sequence[Shown],
    columns: Sequence[Column[Shown]],
    *,
    whole: bool = False,
    chosen: bool = False,
    option: str = "",
) -> str:
    """The table as it suits standard output; `whole`: not cut, `chosen`: none of the columns is left out.

    What is left out is said below, with the `option` that shows it, if there is one.
    """
    width = FOREVER if whole else terminal_width()
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    lines, kept = _made(rows, columns, width, colour=colour, chosen=chosen)
    return "\n".join([*lines, *_left_out([column.heading for column in columns], kept, width, option)])


def _left_out(headings: Sequence[str], kept: Sequence[int], width: float, option: str) -> Iterator[str]:
    """Yield the lines that say which columns a terminal leaves out; nothing where it has room for all."""
    missing = [heading for number, heading in enumerate(headings) if number not in kept]
    if missing:
        plural, them = ("s", "them") if len(missing) > 1 else ("", "it")
        also = f", and so does {option}" if option else ""
        said = f"column{plural} left out: {', '.join(missing)}; a wider terminal shows {them}{also}"
        yield from wrapped([said], width, INDENT)


def render(
    rows: Sequence[Shown],
    columns: Sequence[Column[Shown]],
    width: float,
    *,
    colour: bool,
    chosen: bool = False,
) -> str:
    """The table in `width` columns; the verdict is coloured where that is wanted."""
    lines, _ = _made(rows, columns, width, colour=colour, chosen=chosen)
    return "\n".join(lines)


def _made(
    rows: Sequence[Shown],
    columns: Sequence[Column[Shown]],
    width: float,
    *,
    colour: bool,
    chosen: bool,
) -> tuple[list[str], Sequence[int]]:
    """Return the lines of the table, and the numbers of the columns that it has."""
    cells = [[column.cell(row) for row in rows] for column in columns]
    natural = [max(map(len, (columns[number].heading, *cells[number]))) for number in range(len(columns))]
    kept = range(len(columns)) if chosen else _that_fit(columns, natural, width)
    widths = _shortened({number: natural[number] for number in kept}, columns, width)
    lines = [_line([columns[number].heading for number in kept], list(widths.values()), width)]
    for place, row in enumerate(rows):
        line = _line([cells[number][place] for number in kept], list(widths.values()), width)
        if colour and row.verdict in COLOURS and columns[kept[0]].name == "verdict":
            word = len(cells[kept[0]][place])
            line = f"\x1b[{COLOURS[row.verdict]}m{line[:word]}\x1b[0m{line[word:]}"
        lines.append(line)
    return lines, kept


def _that_fit(columns: Sequence[Column[Shown]], natural: Sequence[int], width: float) -> Sequence[int]:
    """Return which columns to show: all, or without those of the lowest rank."""
    least = [min(size, column.shortest or size) for column, size in zip(columns, natural, strict=True)]
    kept = list(range(len(columns)))
    while len(kept) > 1 and _total([least[number] for number in kept]) > width:
        kept.remove(min(kept, key=lambda number: columns[number].rank))
    return kept


def _shortened(sizes: dict[int, int], columns: Sequence[Column[Shown]], width: float) -> dict[int, int]:
    """Return the widths, those that may be shortened no wider than the terminal allows."""
    sizes = dict(sizes)
    while _total(list(sizes.values())) > width:
        longer = [number for number, size in sizes.items() if size > (columns[number].shortest or size)]
        if not longer:
            break
        sizes[max(longer, key=lambda number: sizes[number])] -= 1
    return sizes


def _total(sizes: Sequence[int]) -> int:
    return sum(sizes) + len(GAP) * (len(sizes) - 1)


def _line(cells: Sequence[str], widths: Sequence[int], width: float) -> str:
    fitting = [_cut(cell, size).ljust(size) for cell, size in zip(cells, widths, strict=True)]
    return _cut(GAP.join(fitting).rstrip(), width)


def _cut(text: str, width: float) -> str:
    return text if len(text) <= width else text[: int(width) - 1] + CUT


def as_json(connections: Iterable[Connection]) -> str:
    """An object with the version and an array of objects; times are seconds, null is unknown or never."""
    return json.dumps({"version": FORMAT, "connections": [plain(connection) for connection in connections]}, indent=1)
