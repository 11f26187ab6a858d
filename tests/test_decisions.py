"""docs/decisions: every page is found by its title and has the same parts."""

from __future__ import annotations

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[1] / "docs/decisions"
PAGES = sorted(set(DECISIONS.glob("*.md")) - {DECISIONS / "README.md"})
PAGE = re.compile(
    r"# (?P<title>[^\n]+)\n\nDecided 20\d\d-\d\d-\d\d\.\n\n"
    r"## Context\n\n.+\n\n## Decision\n\n.+\n\n## Consequences\n\n.+\n",
    re.DOTALL,
)
LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")


def title(page: Path) -> str:
    """The decision in one line."""
    match = PAGE.fullmatch(page.read_text(encoding="utf-8"))
    assert match, f"{page}: has a title, 'Decided DATE.', and the sections Context, Decision and Consequences"
    return match["title"]


def test_the_name_of_each_page_is_its_title() -> None:
    for page in PAGES:
        assert page.stem == re.sub(r"[^a-z0-9]+", "-", title(page).lower().replace("'", ""))


def test_the_index_lists_every_page_once_by_its_title() -> None:
    index = LINK.findall((DECISIONS / "README.md").read_text(encoding="utf-8"))
    assert sorted(index) == sorted((title(page), page.name) for page in PAGES)


def test_pages_link_only_to_files_that_exist() -> None:
    for page in PAGES:
        for _, target in LINK.findall(page.read_text(encoding="utf-8")):
            assert (DECISIONS / target).exists(), f"{page.name}: {target}"
