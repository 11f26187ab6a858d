"""Text as roff: plain man(7) macros, understood by groff and mandoc alike."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPECIAL = {"\\": r"\e", "^": r"\(ha", "~": r"\(ti", "`": r"\(ga"}
WORD = re.compile(r"[a-z]+(?:-[a-z0-9]+)+[,.:;]?")  # joined by hyphens; all other dashes are code's
NAME_FIRST = re.compile(r"`|(?:true|false)\b")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
SENTENCE_END = re.compile(r"(?<=[.?]) (?=[A-Z\"])")


def text(words: str) -> str:
    """Prose, made harmless: a hyphen stays one only within a plain word, so that paths can be copied."""
    escaped = "".join(SPECIAL.get(letter, letter) for letter in words)
    return " ".join(word if WORD.fullmatch(word) else word.replace("-", r"\-") for word in escaped.split(" "))


def code(words: str) -> str:
    """What is typed or read as it stands: no hyphen or quote may change its shape."""
    return "".join({"-": r"\-", "'": r"\(aq"}.get(letter, SPECIAL.get(letter, letter)) for letter in words)


def bold(words: str) -> str:
    """Code, to be typed as it is."""
    return rf"\fB{code(words)}\fR"


def italic(words: str) -> str:
    """A place for what the reader knows."""
    return rf"\fI{code(words)}\fR"


def markdown(words: str) -> str:
    """One paragraph with `code` in it; of a link, which leads nowhere on a manual page, its words."""
    parts = LINK.sub(r"\1", words).split("`")
    return "".join(bold(part) if number % 2 else text(part) for number, part in enumerate(parts))


def lines(paragraph: str) -> list[str]:
    """Input lines, each sentence on one of its own; none is taken for a macro."""
    return [rf"\&{line}" if line[:1] in {".", "'"} else line for line in SENTENCE_END.split(paragraph)]


def sentence(words: str) -> str:
    """The words with a capital and a full stop, but a name that leads them stays as it is."""
    if not NAME_FIRST.match(words):
        words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "?")) else f"{words}."


def item(tags: Iterable[str], *body: str) -> list[str]:
    """One entry of a list, under one or more tags."""
    macros = [macro for tag in tags for macro in (".TQ", tag)]
    return [".TP", *macros[1:], *body]


def table(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Rows of a tag and a paragraph, close together; the tags share a column of their width."""
    rows = list(rows)
    width = max(len(tag) for tag, _ in rows) + 2
    found = [".PD 0"]
    for tag, paragraph in rows:
        found += [f".TP {width}n", bold(tag), *lines(paragraph)]
    return [*found, ".PD"]
