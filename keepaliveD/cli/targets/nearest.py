"""What somebody may have meant by a word that names nothing: the units and processes whose names are the nearest."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from keepaliveD.cli.targets import units
from keepaliveD.cli.targets.named import process_name
from keepaliveD.config.units import SUFFIXES, with_suffix
from keepaliveD.model.text import printable, quoted

MOST = 3  # names that are offered
ALIKE = 0.75  # how alike a mistyped name is (difflib.SequenceMatcher.ratio)
SHORTEST = 3  # letters of which a name may begin or consist in part: fewer are in too many
LONGEST = 255  # letters of a unit's name (systemd.unit(5))
BEGUN, WITHIN, BEGINNING = 0.05, 0.2, 0.25  # how far a name is that begins so, has it within, or is its beginning
FAR = 1.0  # how far a name is that is not near; what is alike is as far as its ratio is from 1
MARGIN = 0.1  # by how much those that are offered may be farther than the nearest
PARTS = re.compile(r"[^0-9A-Za-z]+")
SUFFIX = re.compile(f"({'|'.join(map(re.escape, SUFFIXES))})$")
LISTS = "keepalivectl sockets --all lists connections"
WILDCARDS = re.compile(r"[*?\[]")


class Besides(NamedTuple):
    """What else than connections a word can name: in words that go on a sentence, and all the names."""

    words: str = ""
    names: Sequence[str] = ()


NOTHING = Besides()


def did_you_mean(word: str, *candidates: Iterable[str]) -> str:
    """Return the end of a sentence that offers the names nearest to a word, or "" where none is near.

    Of those that are equally near, candidates that were given first come first.
    """
    near = [quoted(name) for name in nearest(word, (name for each in candidates for name in each))]
    if not near:
        return ""
    either = " or ".join(filter(None, (", ".join(near[:-1]), near[-1])))
    return f"; did you mean {either}?"


def nearest(word: str, names: Iterable[str]) -> list[str]:
    """Return the few names that are nearest to a word, the nearest first."""
    wanted = _stem(word[:LONGEST])
    if not wanted or WILDCARDS.search(word):
        return []
    matcher = difflib.SequenceMatcher(b=wanted)
    far = {name: _farness(wanted, _stem(name), matcher) for name in names if name and name != word}
    most = min(FAR / 2, min(far.values(), default=FAR) + MARGIN)
    return sorted((name for name, by in far.items() if by <= most), key=far.__getitem__)[:MOST]


def _farness(wanted: str, stem: str, matcher: difflib.SequenceMatcher[str]) -> float:
    """Return how far a name is from what was wanted, up to FAR."""
    if wanted in (stem, *PARTS.split(stem)):
        return 0.0  # the same but for the suffix, or a part of it as people speak of it
    if len(wanted) >= SHORTEST and stem.startswith(wanted):
        return BEGUN
    matcher.set_seq1(stem)
    if matcher.quick_ratio() >= ALIKE and (alike := matcher.ratio()) >= ALIKE:
        return 1.0 - alike
    if len(wanted) >= SHORTEST and wanted in stem:
        return WITHIN
    is_begun = len(stem) >= SHORTEST and wanted.startswith(stem) and 2 * len(stem) >= len(wanted)
    return BEGINNING if is_begun else FAR


def _stem(name: str) -> str:
    return SUFFIX.sub("", name).casefold()


def processes(proc: Path) -> set[str]:
    """Return the names of the processes of this host, but for our own."""
    return {process_name(file) for file in proc.glob("[0-9]*/comm")} - {process_name(proc / "self/comm")}


def nothing_called(word: str, held: Iterable[str], proc: Path, besides: Besides = NOTHING) -> str:
    """Return what to say where a name means no connection, and which names are near.

    `held` are names of units and processes that have connections.
    """
    running, known = processes(proc), units.names()
    is_known = word in running or with_suffix(word) in known
    is_missing = word not in running and units.is_missing(with_suffix(word))
    said = f"no unit or process is called {printable(word)}" if is_missing else f"{printable(word)} has no connection"
    near = did_you_mean(word, held, besides.names, *([] if is_known else [known, running]))
    return f"{said}{besides.words}{near}" if near else f"{said}; {LISTS}{besides.words}"
