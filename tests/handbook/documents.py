"""The documents of the handbook, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/recipes").glob("*.md")))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> Iterator[str]:
    """Yield the blocks of code in this language."""
    for indent, name, block in FENCE.findall(text):
        if name == language:
            yield re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)


def spans(text: str) -> list[str]:
    """Return what stands as code within a line."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
