"""The page with the figures is made again from what was played."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepaliveD.model.causes import Cause
from tests.kernel.deaths.page import PAGE, Tables, mark_of, write
from tests.kernel.deaths.played import Row

TABLES: Tables = {
    "bpf": [
        Row(Cause.PATH_DIED, 3, 2, 3, [(Cause.PATH_DIED, 2), (Cause.SILENT_AFTER_IDLE, 1)]),
        Row(Cause.LOCAL_ABORT, 1, 1, 1, [(Cause.LOCAL_ABORT, 1)]),
    ],
    "netlink": [Row(Cause.LOCAL_ABORT, 1, 0, 0, [])],
}
BEFORE = f"""Text.

{mark_of(0)}
Yesterday.

| true cause | bpf |
| --- | --- |
| old | 1 |

More.

{mark_of(5)}
With loss.

| true cause | bpf |
| --- | --- |
| old | 5 |

End.
"""
AFTER = f"""Text.

{mark_of(0)}
Today.

| true cause | bpf: right, named, of all | else called | netlink: right, named, of all | else called |
| --- | --- | --- | --- | --- |
| `path-died` | 2, 3, 3 | `silent-after-idle` 1 |  |  |
| `local-abort` | 1, 1, 1 |  | 0, 0, 1 | not seen |
| **all** | **3, 4, 4** |  | **0, 0, 1** |  |

More.
"""


def test_the_table_and_what_it_was_measured_in_replace_what_stood_there_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(BEFORE, encoding="utf-8")
    write(TABLES, 0, "Today.", page)
    assert page.read_text(encoding="utf-8") == AFTER + BEFORE.partition("More.\n")[2]


@pytest.mark.parametrize("text", ["", f"{mark_of(0)}\nNo table follows.\n"], ids=["no mark", "no table"])
def test_a_page_without_a_place_for_the_table_is_left_as_it_is(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="has no"):
        write(TABLES, 0, "Today.", page)
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("loss", [0, 5])
def test_the_page_has_a_place_for_both_tables(loss: int, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    write(TABLES, loss, "Today.", page)
    assert "| `path-died` | 2, 3, 3 |" in page.read_text(encoding="utf-8")
