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


def journal_queries() -> list[list[str]]:
    """Return the arguments of each journalctl in the handbook and the manual that asks for entries of the daemon."""
    manual = ROOT / "packaging/manual/tcp-keepalived.8.in"
    found = [line for document in DOCUMENTS for line in re.findall(r"journalctl ([^`\n]*)", text(document))]
    found += [
        line.replace("\\e\n", "").replace("\\-", "-")
        for line in re.findall(r"\\fBjournalctl (.*?)\\fR", text(manual), re.DOTALL)
    ]
    return [line.split() for line in found if re.search("KEEPALIVE|keepalive|MESSAGE_ID", line)]


def text(document: Path) -> str:
    """Return what stands in the document."""
    return document.read_text(encoding="utf-8")


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document: its headings', as GitHub and MkDocs make them alike, and its own."""
    found = set(re.findall(r'<a id="([^"]+)"></a>', text(document)))
    for heading in re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text(document), flags=re.DOTALL), re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        by_github, by_mkdocs = re.sub(r"\s", "-", plain), re.sub(r"[-\s]+", "-", plain)
        if by_github == by_mkdocs:
            found.add(by_github)
    return found
