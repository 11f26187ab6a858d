"""Match names with patterns as in Python's fnmatch, without a regular expression: for patterns that anybody may send.

To compile a pattern of 256 characters into a regular expression can take 100 ms, and Python keeps thousands of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

WILDCARDS = frozenset("*?[")
MOST_KEPT = 256  # characters of names for which is kept what accepts them


class Token(NamedTuple):
    """One character that a pattern asks for: in one of these ranges, or in none of them; * before it skips any."""

    ranges: Sequence[tuple[str, str]]
    negated: bool = False


STAR = Token(())
ANY = Token((), negated=True)


def has_wildcards(pattern: str) -> bool:
    """Return whether a pattern matches other names than itself."""
    return not WILDCARDS.isdisjoint(pattern)


class Patterns:
    """Names, and patterns with wildcards that are followed all at once through a name.

    A bit of a whole number stands for a place in a pattern: up to there it matches what of the name was read. So a
    name takes a step for each of its characters, and a step is longer only by the length of that number.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._exact = frozenset(pattern for pattern in patterns if not has_wildcards(pattern))
        self._starts = self._ends = self._stars = 0
        self._accepting = _Accepting()
        place = 1
        for pattern in patterns:
            if not has_wildcards(pattern):
                continue
            self._starts |= place
            for token in _tokens(pattern):
                if token is STAR:
                    self._stars |= place
                else:
                    place <<= 1
                    self._accepting.add(token, place)
            self._ends |= place
            place <<= 1

    def __bool__(self) -> bool:
        """Return whether there is a pattern."""
        return bool(self._exact or self._ends)

    def match(self, name: str) -> bool:
        """Return whether one of the patterns matches the name, as fnmatch.fnmatchcase does."""
        if name in self._exact:
            return True
        places = self._starts
        for character in name:
            if not places:
                return False
            places = (places << 1) & self._accepting[character] | places & self._stars
        return bool(places & self._ends)


class _Accepting(dict[str, int]):
    """By character the places that it leads to."""

    def __init__(self) -> None:
        super().__init__()
        self._ranges: list[tuple[str, str, int]] = []
        self._negated = 0

    def add(self, token: Token, place: int) -> None:
        """Have the characters that this token accepts lead to this place."""
        self._ranges += [(first, last, place) for first, last in token.ranges]
        if token.negated:
            self._negated |= place

    def __missing__(self, character: str) -> int:
        found = 0
        for first, last, place in self._ranges:
            if first <= character <= last:
                found |= place
        found ^= self._negated
        if len(self) < MOST_KEPT:
            self[character] = found
        return found


def _tokens(pattern: str) -> Iterator[Token]:
    at = 0
    while at < len(pattern):
        character, end = pattern[at], at
        if character == "*":
            yield STAR
        elif character == "?":
            yield ANY
        elif character == "[" and (closed := pattern.find("]", at + 2 + (pattern[at + 1 : at + 2] == "!"))) > 0:
            end = closed
            yield _of_brackets(pattern[at + 1 : end])
        else:
            yield Token([(character, character)])
        at = end + 1


def _of_brackets(inside: str) -> Token:
    """Return what the characters between brackets ask for, as Python's fnmatch reads them."""
    chunks = _between_hyphens(inside)
    for after in range(len(chunks) - 1, 0, -1):
        if chunks[after - 1][-1] > chunks[after][0]:  # no character is in that range
            chunks[after - 1 : after + 1] = [chunks[after - 1][:-1] + chunks[after][1:]]
    negated = chunks[0].startswith("!")
    if negated:
        chunks[0] = chunks[0][1:]
        if not chunks[0] and len(chunks) > 1:  # "[b-a!-z]": the hyphen after what negates is itself meant
            chunks[:2] = ["-" + chunks[1]]
    ranges = [(character, character) for character in "".join(chunks)]
    return Token([*ranges, *((before[-1], after[0]) for before, after in pairwise(chunks))], negated)


def _between_hyphens(inside: str) -> list[str]:
    """Return the characters before, between and after the hyphens of ranges: a range goes from one to the next."""
    chunks, begin = [], 0
    hyphen = inside.find("-", 2 if inside[0] == "!" else 1)
    while hyphen >= 0:
        chunks.append(inside[begin:hyphen])
        begin = hyphen + 1
        hyphen = inside.find("-", hyphen + 3)
    if begin < len(inside):
        chunks.append(inside[begin:])
    else:
        chunks[-1] += "-"
    return chunks
