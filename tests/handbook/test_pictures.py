"""The pictures of the README show what the programs print, and load nothing from anywhere."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from keepaliveD.cli.printing.columns import EACH, MORE
from tests.handbook.documents import DOCUMENTS, text
from tests.handbook.pictures import PICTURES, RECORDED, picture, screen, words

LARGEST = 60_000  # octets


@pytest.mark.parametrize("name", RECORDED)
def test_a_picture_shows_the_screen_of_the_readme(name: str) -> None:
    """Where it does not: script/docs --pictures."""
    svg = text(PICTURES / f"{name}.svg")
    assert svg == picture(screen(name))
    assert words(svg) == [line for line in screen(name).splitlines() if line]


def test_the_picture_of_watch_has_the_columns_that_watch_has() -> None:
    """Where it does not: script/docs --pictures."""
    (header,) = [line for line in words(text(PICTURES / "watch.svg")) if line.startswith("VERDICT")]
    assert set(header.split()) <= {column.heading for column in (*EACH, *MORE)}


@pytest.mark.parametrize("file", sorted(PICTURES.glob("*.svg")), ids=lambda file: str(file.stem))
def test_a_picture_is_small_and_alone_and_a_document_shows_it(file: Path) -> None:
    svg = text(file)
    assert len(svg.encode()) < LARGEST
    root = ElementTree.fromstring(svg)  # our own
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {"svg", "style", "rect", "text", "tspan"}
    assert not re.search(r"url\(|@import|href", svg)
    assert "prefers-color-scheme:dark" in svg
    assert any(f"pictures/{file.name})" in text(document) for document in DOCUMENTS)


def test_what_a_program_prints_is_no_markup() -> None:
    shown = "$ why <script>\n  BARE: a & b, 1 cut\n"
    ElementTree.fromstring(picture(shown))  # our own
    assert words(picture(shown)) == shown.splitlines()
