"""What `keepalivectl watch` shows: lines that fit a terminal, made of numbers and connections."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from keepaliveD.cli.printing.columns import EACH, Column
from keepaliveD.cli.printing.table import CUT, GAP, render
from keepaliveD.model.connections import Connection, Verdict
from keepaliveD.model.dataclass import dataclass
from keepaliveD.model.duration import span
from keepaliveD.model.sockets import Floats
from keepaliveD.model.text import printable

HOUR = 3600.0  # seconds
WORST = (Verdict.CUT, Verdict.BARE, Verdict.LATE, Verdict.UNKNOWN, Verdict.SAFE)
BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"  # from nothing to the most
OLD = 5.0  # seconds from which on the age of a scan is shown
BARS = (10, 60)  # of the sparkline: at least and at most
HELP = "type to filter, Esc clears it, arrows and pages scroll, Ctrl-C ends"
ABOVE = 4  # lines above the connections: counts, the next hour, the filter, headings
FEWEST = 7  # lines of a terminal in which there is room for help
INVERSE, PLAIN = "\x1b[7m", "\x1b[0m"
JOINING = ((0x1160, 0x11FF), (0xD7B0, 0xD7FF))  # letters that a terminal draws into the one before (Hangul)


@dataclass(frozen=True, slots=True)
class View:
    """What is to be seen. `left` is the seconds that doomed connections have left; `first` is the row at the top.

    `total` is all connections, `counts` those that match by verdict, `presumed` those of them whose verdict is not
    certain, `shown` those from `first` on. `age` is the time since the scan, in seconds. `whose` says who has scanned,
    "" where that is plain.
    """

    clock: str
    total: int
    counts: Mapping[Verdict, int]
    left: Floats
    shown: Sequence[Connection]
    age: float = 0.0
    first: int = 0
    filter: str = ""
    whose: str = ""
    note: str = ""
    presumed: Mapping[Verdict, int] = dataclasses.field(default_factory=dict)

    @property
    def matching(self) -> int:
        """Return how many connections match the filter."""
        return sum(self.counts.values())


def room(height: int) -> int:
    """Return how many connections a terminal with so many lines shows."""
    return max(1, height - ABOVE - (height >= FEWEST))


def frame(view: View, width: int, height: int, *, colour: bool, blocks: bool) -> list[str]:
    """Return the lines for a terminal of this size."""
    table = render(view.shown[: room(height)], NARROW, width, colour=colour).split("\n")
    if colour:
        table[0] = f"{INVERSE}{table[0].ljust(width)}{PLAIN}"
    if not view.shown:
        table.append(_cut("no connection matches the filter" if view.filter else "no connections", width))
    above = [_counts(view), _next_hour(view.left, width, BLOCKS if blocks else ASCII), _filter(view, width)]
    lines = [*(_cut(line, width) for line in above), *table][:height]
    if height < FEWEST:
        return lines
    return [*lines, *[""] * (height - 1 - len(lines)), _cut(_below(view), width)]


def starting(width: int) -> list[str]:
    """Return what is shown before the first scan has ended."""
    return [_cut("reading all sockets ...", width)]


def narrow(text: str) -> str:
    """Return the text in which each character takes one column: others are written by their number."""
    return text if text.isascii() and text.isprintable() else "".join(map(_narrow, text))


def _narrow(character: str) -> str:
    if not character.isprintable():
        return printable(character)
    is_wide = unicodedata.east_asian_width(character) in ("W", "F")
    is_joined = unicodedata.category(character)[0] in "MC" or any(
        first <= ord(character) <= last for first, last in JOINING
    )
    return character.encode("unicode_escape").decode("ascii") if is_wide or is_joined else character


def _narrowed(column: Column[Connection]) -> Column[Connection]:
    cell: Callable[[Connection], str] = column.cell
    return dataclasses.replace(column, cell=lambda one: narrow(cell(one)))


NARROW = tuple(map(_narrowed, EACH))


def sparkline(left: Floats, bars: int, levels: str) -> str:
    """Return a bar for each part of the next hour: as high as the number of connections that are cut in it."""
    counts = np.histogram(left, bars, (0.0, HOUR))[0].tolist()
    most = max(*counts, 1)
    return "".join(levels[math.ceil(count / most * (len(levels) - 1))] for count in counts)


def _counts(view: View) -> str:
    matching = f"{view.matching} of " if view.filter else ""
    by_verdict = ", ".join(words for verdict in WORST for words in _counted(view, verdict))
    connections = f"{matching}{view.total} connection{'s' * (view.total != 1)}"
    scanned = f" (scanned {span(view.age)} ago)" if view.age >= OLD else ""
    return f"{view.clock}  {connections}{': ' * bool(by_verdict)}{by_verdict}{scanned}"


def _counted(view: View, verdict: Verdict) -> Iterator[str]:
    """Yield how many have this verdict for certain, and how many perhaps, as their lines say it."""
    presumed = view.presumed.get(verdict, 0)
    if certain := view.counts.get(verdict, 0) - presumed:
        yield f"{certain} {verdict.label}"
    if presumed:
        yield f"{presumed} {verdict.label}?"


def _next_hour(left: Floats, width: int, levels: str) -> str:
    """Return how many connections will be cut in the next hour, and when, as far as there is room."""
    soon = left[(left >= 0.0) & (left <= HOUR)]
    label, number = "next hour ", f"{len(soon)} cut{'s' * (len(soon) != 1)} expected"
    long = f" {number}, {'the first ' * (len(soon) > 1)}in {span(float(soon.min()))}" if len(soon) else f" {number}"
    words = long if width - len(label) - len(long) >= BARS[0] else f" {number}"
    bars = min(BARS[1], width - len(label) - len(words))
    return f"{label}{sparkline(soon, bars, levels)}{words}" if bars >= BARS[0] else f"{label}{number}"


def _filter(view: View, width: int) -> str:
    """Return what was typed, and at the right end who has scanned, where there is room for both."""
    typed, whose = f"filter: {view.filter}_", narrow(view.whose)
    room = width - len(typed) - len(GAP)
    return f"{typed}{GAP}{whose.rjust(room)}" if whose and len(whose) <= room else typed


def _below(view: View) -> str:
    if view.note:
        return narrow(view.note)
    hidden = view.matching > len(view.shown)
    place = f"{view.first + 1}-{view.first + len(view.shown)} of {view.matching}; " if hidden else ""
    return f"{place}{HELP}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + CUT
