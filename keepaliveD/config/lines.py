"""Where each key of a TOML text stands: tomllib does not tell, and nests without a limit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

Key = tuple[str | int, ...]  # entries are counted from 0

DEEPEST = 16  # parts of a key, and brackets within brackets; the settings need 5

WORD = re.compile(
    r'''"""(?:\\.|[^\\])*?(?:"{3,5}|\Z)'''
    r"""|'''.*?(?:'{3,5}|\Z)"""
    r"""|"(?:\\.|[^"\\\n])*"?"""
    r"""|'[^'\n]*'?"""
    r"""|\#[^\n]*|\n|[ \t\r]+|[][{},=.]|[^]["'\#\s{},=.]+|.""",
    re.DOTALL,
)


NEWLINE, END = "\n", ""
BLANK = ("#", " ", "\t", "\r")
PUNCTUATION = frozenset([NEWLINE, END, *"[]{}=,."])
ENDS_VALUE = frozenset([NEWLINE, END, *"]},"])


class TooDeep(Exception):
    """Something is nested deeper than any setting, in line `args[0]`."""


def lines(text: str) -> dict[Key, int]:
    """The line of each key, section, and entry of a list, as far as the text is TOML. Raises TooDeep."""
    return _Scan(text).found


class _Scan:
    """One reading of a text. What is no TOML is skipped: tomllib will refuse it."""

    def __init__(self, text: str) -> None:
        self.found: dict[Key, int] = {}
        self._counts: dict[Key, int] = {}  # of sections that are begun with [[...]]
        self._section: Key = ()
        self._words = [(line, word) for line, word in _words(text) if not word.startswith(BLANK)]
        self._words.append((text.count("\n") + 1, END))
        self._next = 0
        while self._word != END:
            if self._word == "[":
                self._begin_section()
            else:
                self._setting(self._section, 0)
            self._skip_line()

    @property
    def _word(self) -> str:
        return self._words[self._next][1]

    @property
    def _line(self) -> int:
        return self._words[self._next][0]

    def _take(self, word: str) -> bool:
        """Go past the next word if it is this one."""
        taken = self._word == word
        self._next += taken
        return taken

    def _skip_line(self) -> None:
        while self._word != END:
            if self._take(NEWLINE):
                return
            self._next += 1

    def _begin_section(self) -> None:
        line = self._line
        repeated = self._take("[") and self._take("[")
        key = self._key()
        if not key:
            return
        self._section = self._resolve(key[:-1]) + key[-1:] if repeated else self._resolve(key)
        self._note(self._section, line)
        if repeated:
            number = self._counts.get(self._section, 0)
            self._counts[self._section] = number + 1
            self._section += (number,)
            self._note(self._section, line)

    def _resolve(self, key: Key) -> Key:
        """The key with the number of the last entry wherever it goes through a repeated section."""
        resolved: Key = ()
        for part in key:
            resolved += (part,)
            if resolved in self._counts:
                resolved += (self._counts[resolved] - 1,)
        return resolved

    def _setting(self, within: Key, depth: int) -> None:
        """KEY = VALUE."""
        line = self._line
        key = within + self._key()
        if key != within and self._take("="):
            self._note(key, line)
            self._value(key, depth)

    def _key(self) -> Key:
        """The parts of a dotted key."""
        parts: list[str] = []
        while self._word not in PUNCTUATION:
            parts.append(_plain(self._word))
            if len(parts) > DEEPEST:
                raise TooDeep(self._line)
            self._next += 1
            if not self._take("."):
                break
        return tuple(parts)

    def _value(self, key: Key, depth: int) -> None:
        if depth > DEEPEST:
            raise TooDeep(self._line)
        if self._take("["):
            self._list(key, depth)
        elif self._take("{"):
            self._table(key, depth)
        else:
            while self._word not in ENDS_VALUE:
                self._next += 1

    def _list(self, key: Key, depth: int) -> None:
        entry = 0
        while self._word != END and not self._take("]"):
            if self._take(","):
                entry += 1
            elif not self._take(NEWLINE) and not self._take("}"):
                self._note((*key, entry), self._line)
                self._value((*key, entry), depth + 1)

    def _table(self, key: Key, depth: int) -> None:
        while self._word != END and not self._take("}"):
            before = self._next
            self._setting(key, depth + 1)
            self._next += self._next == before  # what cannot be a setting

    def _note(self, key: Key, line: int) -> None:
        """A key, and what it is in, stand where they are seen first."""
        for length in range(1, len(key) + 1):
            self.found.setdefault(key[:length], line)


def _words(text: str) -> Iterator[tuple[int, str]]:
    """All words with their lines."""
    line = 1
    for match in WORD.finditer(text):
        yield line, match[0]
        line += match[0].count("\n")


def _plain(word: str) -> str:
    """A part of a key without quotes and escapes."""
    if not word.startswith(('"', "'")):
        return word
    try:
        return str(tomllib.loads(f"key = {word}")["key"])
    except ValueError:
        return word
