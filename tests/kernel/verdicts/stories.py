"""What happens to each connection: drawn from a seed, so that the same seed plans the same day."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from tests.support.rig import Mode

End = Literal["client", "server"]
ENDS: tuple[End, End] = ("client", "server")

TIMER_SLACK = 1 / 8  # a timer may fire later by this part of its length (kernel/time/timer.c, the wheel)
ROOM = 0.3  # seconds between the latest probe of a safe setting and the cut
EARLY = 1 / 12  # of all stories: begin before the daemons do


@dataclass(frozen=True)
class Wall:
    """A firewall that forgets after `timeout` seconds, and daemons that scan every `interval` seconds.

    `system` is the idle time that its hosts' sysctls give to programs that choose none.
    """

    timeout: int
    interval: float
    mode: Mode
    system: int


WALLS = (
    Wall(2, 1, "reject", system=1),
    Wall(3, 0.25, "drop", system=7200),
    Wall(4, 5, "reject", system=2),
    Wall(5, 1, "drop", system=3),
    Wall(6, 0.25, "reject", system=4),
    Wall(8, 1, "reject", system=7200),
    Wall(8, 0.25, "drop", system=5),
)
SPAN = 90.0  # seconds in which the longest story has room


@dataclass(frozen=True)
class Settings:
    """The socket options of one end: seconds; `idle` 0 is the system's, None no keepalive at all."""

    idle: int | None = None
    interval: int = 1
    probes: int = 5
    user_timeout: int = 0

    def period(self, system: int) -> float:
        """Seconds of silence after which it has probed at the latest."""
        if self.idle is None:
            return float("inf")
        longest = max(self.idle, self.interval) if self.idle else max(system, 1)
        return longest * (1 + TIMER_SLACK)


@dataclass(frozen=True)
class Step:
    """What one end does `at` seconds after the connection was opened."""

    at: float
    end: End
    what: Literal["say", "ask", "half-close"]  # whoever is asked answers


@dataclass(frozen=True)
class Story:
    """One connection's life. `opens_at` counts from when all daemons run; a negative one comes before them."""

    kind: str
    opens_at: float
    client: Settings
    server: Settings
    steps: tuple[Step, ...]
    lasts: float

    def settings(self, end: End) -> Settings:
        """Those of this end."""
        return self.client if end == "client" else self.server


NO_KEEPALIVE = Settings()


def plan(seed: int, wall: Wall, count: int, span: float) -> list[Story]:
    """Return `count` stories at this firewall that end within `span` seconds, if they can; the kinds take turns."""
    random = Random(f"{seed} {wall}")
    kinds = list(KINDS)
    random.shuffle(kinds)
    stories = [
        replace(KINDS[kind](random, wall), kind=kind) for kind in itertools.islice(itertools.cycle(kinds), count)
    ]
    openings = [random.uniform(0, max(0, span - story.lasts)) for story in stories]
    openings[: round(count * EARLY)] = [-1.0] * round(count * EARLY)
    return sorted(
        (replace(story, opens_at=at) for story, at in zip(stories, openings, strict=True)),
        key=lambda story: story.opens_at,
    )


def _safe(random: Random, wall: Wall) -> Settings:
    idle = random.choice([n for n in range(1, wall.timeout) if n * (1 + TIMER_SLACK) < wall.timeout - ROOM])
    return Settings(idle, interval=random.randint(1, idle))


def _late(random: Random, wall: Wall) -> Settings:
    return Settings(wall.timeout + random.randint(0, 3), interval=random.randint(1, wall.timeout))


def _bare(random: Random, wall: Wall) -> Story:
    return _story(random, wall)


def _own(random: Random, wall: Wall) -> Story:
    return _story(random, wall, _safe(random, wall))


def _system(random: Random, wall: Wall) -> Story:
    return _story(random, wall, Settings(0))


def _peer(random: Random, wall: Wall) -> Story:
    return _story(random, wall, server=_safe(random, wall))


def _both(random: Random, wall: Wall) -> Story:
    return _story(random, wall, _safe(random, wall), _safe(random, wall))


def _late_probe(random: Random, wall: Wall) -> Story:
    return _story(random, wall, _late(random, wall))


def _probe_at_the_cut(random: Random, wall: Wall) -> Story:
    return _story(random, wall, Settings(wall.timeout))


def _late_but_kept(random: Random, wall: Wall) -> Story:
    return _story(random, wall, _late(random, wall), _safe(random, wall))


def _long_interval(random: Random, wall: Wall) -> Story:
    return _story(random, wall, replace(_safe(random, wall), interval=75))


def _user_timeout(random: Random, wall: Wall) -> Story:
    settings = random.choice([_safe, _late])(random, wall)
    return _story(random, wall, replace(settings, user_timeout=random.choice([1, 3, 20])))


def _half_closed(random: Random, wall: Wall) -> Story:
    story = _story(random, wall, random.choice([NO_KEEPALIVE, _safe(random, wall)]))
    cut = random.uniform(0.1, story.lasts)
    half = Step(cut, random.choice(ENDS), "half-close")
    return replace(story, steps=(*(step for step in story.steps if step.at < cut), half))


KINDS: dict[str, Callable[[Random, Wall], Story]] = {
    "bare": _bare,
    "bare, too": _bare,
    "own": _own,
    "own, too": _own,
    "system": _system,
    "peer": _peer,
    "peer, too": _peer,
    "both": _both,
    "late probe": _late_probe,
    "probe at the cut": _probe_at_the_cut,
    "late but kept": _late_but_kept,
    "long interval": _long_interval,
    "user timeout": _user_timeout,
    "half-closed": _half_closed,
}


def _story(random: Random, wall: Wall, client: Settings = NO_KEEPALIVE, server: Settings = NO_KEEPALIVE) -> Story:
    if random.random() < 1 / 3:
        client, server = server, client
    steps, now = _talk(random, wall)
    scans = wall.timeout + 2 * wall.interval + random.uniform(2, 4)
    return Story(
        "", 0, client, server, steps, now + random.choice([random.uniform(0.1, 1) * wall.timeout, scans, scans])
    )


def _talk(random: Random, wall: Wall) -> tuple[tuple[Step, ...], float]:
    """Bursts, and silences between them; and when the last burst ends."""
    steps: list[Step] = []
    now = 0.05
    for _ in range(random.randint(1, 4)):
        burst = list(_burst(random, now))
        steps += burst
        now = burst[-1].at + _silence(random, wall.timeout)
    return tuple(steps), steps[-1].at


def _burst(random: Random, now: float) -> Iterator[Step]:
    end = random.choice(ENDS)
    for _ in range(random.randint(1, 4)):
        yield Step(now, end, random.choice(["say", "ask"]))
        now += random.uniform(0.01, 0.3)


def _silence(random: Random, timeout: int) -> float:
    """Seconds: short, until just before the cut, until just after it, or far beyond."""
    before, after = timeout - random.uniform(0.03, 0.4), timeout + random.uniform(0.03, 0.5)
    return random.choice([random.uniform(0.1, 0.9) * timeout, before, before, after, random.uniform(1.2, 2) * timeout])
