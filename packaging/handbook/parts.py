#!/usr/bin/env python3
"""Write the parts of the handbook that the code knows: products, requirements.

usage: python3 packaging/handbook/parts.py ROOT
A part stands between <!-- table: NAME --> and <!-- end -->, in whatever document has this comment.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from keepaliveD.config.catalogue import catalogue
from keepaliveD.model import requirements
from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.duration import exact

DOCUMENTS = ("README.md", "docs/*.md", "docs/recipes/*.md")
THEN = {"drop": "silence", "reset": "a reset", "close": "a close", "unknown": "not known"}


def tables() -> dict[str, str]:
    """Every table that the code knows, by its name in the documents."""
    return {"products": _products(), "requirements": _requirements()}


def documents(root: Path) -> list[Path]:
    """The documents of the handbook."""
    return [file for pattern in DOCUMENTS for file in sorted(root.glob(pattern))]


def filled(text: str, kind: str, parts: Mapping[str, str]) -> str:
    """The document with its parts of this kind in place. Raises KeyError for a part that is not known."""
    return re.sub(
        rf"(<!-- {kind}: ([a-z-]+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{parts[found[2]]}{found[3]}",
        text,
        flags=re.DOTALL,
    )


def _products() -> str:
    rows = (
        (
            f'<a id="{name}"></a>`{name}`',
            preset.product,
            exact(preset.timeout),
            "only data" if preset.counts is WhatCounts.DATA else "packets",
            THEN[preset.then],
            preset.source,
        )
        for name, preset in catalogue().items()
    )
    return _table(("preset", "product", "forgets after", "counts", "the next packet meets", "read in"), rows)


def _requirements() -> str:
    rows = ((each.to, each.privileges, each.linux or "any", each.besides) for each in requirements.ALL)
    return _table(("to", "it requires", "Linux", "and"), rows)


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = tuple(heading)
    lines = [heading, ("---",) * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def main(arguments: list[str]) -> None:
    """The entry point."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    for file in documents(Path(arguments[0])):
        before = file.read_text(encoding="utf-8")
        if (after := filled(before, "table", tables())) != before:
            file.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
