"""What programs do with a connection: talk in bursts, ask, push, beat, close one side, or nothing at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from tests.simulation.connection import Step

Program = Callable[[random.Random, float], Iterator[Step]]


def quiet(rng: random.Random, timeout: float) -> float:
    """Seconds without a word: often well within the path's timeout, often about it, sometimes beyond."""
    which = rng.random()
    if which < 0.6:
        return rng.uniform(0.03, 0.9) * timeout
    if which < 0.8:
        return rng.uniform(0.9, 1.1) * timeout
    return rng.uniform(1.1, 4.0) * timeout


def silent(rng: random.Random, timeout: float) -> Iterator[Step]:
    """Greets, and never speaks again."""
    yield rng.uniform(0, 0.1) * timeout, "here", "ask"


def bursts(rng: random.Random, timeout: float) -> Iterator[Step]:
    """A few exchanges in a row, then quiet."""
    while True:
        for _ in range(rng.randint(1, 4)):
            yield rng.uniform(0.01, 1.0), rng.choice(("here", "peer")), rng.choice(("say", "ask"))
        yield quiet(rng, timeout), rng.choice(("here", "peer")), "say"


def asks(rng: random.Random, timeout: float) -> Iterator[Step]:
    """Requests, each answered."""
    who = rng.choice(("here", "peer"))
    while True:
        yield quiet(rng, timeout), who, "ask"


def pushes(rng: random.Random, timeout: float) -> Iterator[Step]:
    """Data in one direction only."""
    who = rng.choice(("here", "peer"))
    while True:
        yield quiet(rng, timeout), who, "say"


def beats(rng: random.Random, timeout: float) -> Iterator[Step]:
    """A heartbeat of the program's own."""
    who, period = rng.choice(("here", "peer")), rng.uniform(0.2, 1.2) * timeout
    while True:
        yield period * rng.uniform(0.98, 1.02), who, rng.choice(("say", "ask"))


def finishes(rng: random.Random, timeout: float) -> Iterator[Step]:
    """Talks, closes one side, and hears the other out."""
    one, other = rng.choice((("here", "peer"), ("peer", "here")))
    for _ in range(rng.randint(1, 5)):
        yield quiet(rng, timeout), one, "ask"
    yield quiet(rng, timeout), one, "finish"
    for _ in range(rng.randint(0, 3)):
        yield quiet(rng, timeout), other, "say"


PROGRAMS: dict[Program, float] = {silent: 3.0, bursts: 3.0, asks: 2.0, pushes: 2.0, beats: 1.0, finishes: 0.7}
