#!/usr/bin/env python3
"""Write the manual pages, the shells' completions and the journal's catalog.

usage: python3 packaging/manual/generate.py OUTDIR
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from catalog import catalog
from commandline import programs
from completions import completions
from pages import pages


def files() -> dict[str, str]:
    """The content of every file by its path in OUTDIR."""
    daemon, control = programs()
    shells = completions(daemon) | completions(control)
    return (
        {f"man/{name}": page for name, page in pages(daemon, control).items()}
        | {f"completions/{name}": script for name, script in shells.items()}
        | {"catalog/tcp-keepalived.catalog": catalog()}
    )


def main(arguments: list[str]) -> None:
    """The entry point."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    for name, content in files().items():
        file = Path(arguments[0], name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
