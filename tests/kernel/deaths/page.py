"""Puts what all ends were called into the page that has the figures (docs/deaths-measured.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.kernel.deaths.played import Row, totals

PAGE = Path(__file__).parents[3] / "docs" / "deaths-measured.md"
Tables = Mapping[str, Sequence[Row]]  # by engine


def mark_of(loss: int) -> str:
    """Return the line of the page below which the figures with this loss stand, up to the next heading or mark."""
    return f"<!-- python -m tests.kernel.deaths --write{f' --loss {loss}' if loss else ''} -->"


def write(tables: Tables, loss: int, circumstances: str, page: Path = PAGE) -> None:
    """Replace the figures with this loss by these. Raises ValueError where the page has no mark for them."""
    before, mark, after = page.read_text(encoding="utf-8").partition(mark_of(loss) + "\n")
    if not mark:
        raise ValueError(f"{page} has no line {mark_of(loss)}")
    _, table, rest = after.partition("\n\n| true cause |")
    _, end, rest = rest.partition("\n\n")
    if not table or not end:
        raise ValueError(f"{page} has no table after {mark_of(loss)}")
    page.write_text(f"{before}{mark}{circumstances}\n\n{markdown(tables)}\n\n{rest}", encoding="utf-8")


def markdown(tables: Tables) -> str:
    """Return the table of all engines, a row for each true cause."""
    head = ["true cause", *(f"{engine}: right, named, of all | else called" for engine in tables)]
    lines = [_line(head), _line(["---"] * (1 + 2 * len(tables)))]
    for truth in sorted({row.truth for table in tables.values() for row in table}):
        cells = [f"`{truth.key}`"]
        for table in tables.values():
            cells += next((_cells(row) for row in table if row.truth is truth), ["", ""])
        lines.append(_line(cells))
    cells = ["**all**"]
    for table in tables.values():
        cells += ["**{}, {}, {}**".format(*totals(table)), ""]
    return "\n".join([*lines, _line(cells)])


def _cells(row: Row) -> list[str]:
    others = ", ".join(f"`{cause.key}` {count}" for cause, count in row.called if cause is not row.truth)
    return [f"{row.right}, {row.named}, {row.made}", others if row.called else "not seen"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
