"""What all kinds of torture have in common: cases, each known by its seed, and a count of what came of them."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "torture-"  # of the names of directories
Counts = Counter[str]  # what a case met, by name
Run = Callable[[str, Path], Counts]


class Failure(Exception):
    """The program did what it must never do."""


@dataclass(frozen=True)
class Cases:
    """The cases of one kind: all, and those that the test suite runs.

    A seed is a word that reproduces one case; `run` raises Failure, and is given an empty directory.
    """

    whole: Callable[[], Iterable[str]]
    short: Callable[[], Iterable[str]]
    run: Run


@dataclass(frozen=True)
class Kind:
    """One kind of torture; `begin` makes what its cases share. Cases that run in this process run one at a time."""

    name: str
    expected: str
    begin: Callable[[], AbstractContextManager[Cases]]
    at_once: int = 1


@dataclass
class Tally:
    """What came of the cases of one kind."""

    kind: str
    cases: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # by seed
    seconds: float = 0.0
    counts: Counts = field(default_factory=Counter)

    def __str__(self) -> str:
        met = ", ".join(f"{what} {number:,}" for what, number in sorted(self.counts.items()) if number)
        return f"| {self.kind:14} | {self.cases:6,} | {len(self.failures):8,} | {self.seconds:7.0f} | {met} |"


HEADING = f"""\
| {"kind":14} | {"cases":>6} | failures | seconds | counted |
| {"":-<14} | {"":->5}: | {"":->7}: | {"":->6}: | ------- |"""


def torture(kind: Kind, *, short: bool = False, only: str = "") -> Tally:
    """Run the cases, tell of each failure at once, and count."""
    tally, begin = Tally(kind.name), time.monotonic()
    clear_away()
    with kind.begin() as cases:
        seeds = [only] if only else cases.short() if short else cases.whole()
        for seed, outcome in _outcomes(kind.at_once, cases.run, iter(seeds)):
            tally.cases += 1
            if isinstance(outcome, Counter):
                tally.counts.update(outcome)
            else:
                tally.failures[seed] = outcome
                print(f"script/torture {kind.name} --seed {seed}\n    {outcome}", flush=True)
    tally.seconds = time.monotonic() - begin
    return tally


def directory() -> tempfile.TemporaryDirectory[str]:
    """Make a directory for a case; its name tells whose it is."""
    return tempfile.TemporaryDirectory(prefix=f"{_whose()}{os.getpid()}-")


def clear_away() -> None:
    """Remove the directories of tortures that were killed, where their process ids are ours, too."""
    for stale in Path(tempfile.gettempdir()).glob(f"{_whose()}*"):
        if not Path("/proc", stale.name.split("-")[2]).exists():
            shutil.rmtree(stale, ignore_errors=True)


def _whose() -> str:
    """What the names of directories begin with: the process id that follows is one of this namespace."""
    return f"{PREFIX}{os.stat('/proc/self/ns/pid').st_ino}-"


def _outcomes(at_once: int, run: Run, seeds: Iterator[str]) -> Iterator[tuple[str, Counts | str]]:
    """What became of each, in the order in which they end."""
    if at_once == 1:
        yield from ((seed, _outcome(run, seed)) for seed in seeds)
        return
    with ThreadPoolExecutor(at_once) as threads:
        running = {threads.submit(_outcome, run, seed): seed for seed in itertools.islice(seeds, at_once)}
        while running:
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()
                running |= {threads.submit(_outcome, run, seed): seed for seed in itertools.islice(seeds, 1)}


def _outcome(run: Run, seed: str) -> Counts | str:
    with directory() as place:
        try:
            return run(seed, Path(place))
        except Failure as failure:
            return str(failure)
        except Exception as error:  # the program or the torture itself: both are to be looked at, and the rest goes on
            return f"{type(error).__name__}: {error}"
