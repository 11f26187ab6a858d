"""Plays all scenes at once, and judges every end that was seen."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from keepaliveD.model.causes import ONLY_BESIDE, Cause
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.base import DeathWatch
from keepaliveD.policy.autopsy.deaths import CERTAIN, decide
from tests.kernel.deaths.rig import Rig
from tests.kernel.deaths.scenes import FIRST_PORT, End, Play, Scene
from tests.kernel.deaths.watching import Watch, watching

ENDS: Mapping[str, frozenset[End]] = {  # that an engine sees from the client's namespace
    "bpf": frozenset({"client", "server"}),
    "netlink": frozenset({"client"}),
}
PATIENCE = 20.0  # seconds in which a busy machine shows what has ended


@dataclass(frozen=True)
class Verdict:
    """What one end was called."""

    scene: Scene
    end: End
    row: Column
    cause: Cause
    confidence: float
    candidates: tuple[Cause, ...]
    hop: int

    @property
    def truth(self) -> Cause:
        """What it was."""
        return self.scene.truth[self.end]

    @property
    def is_right(self) -> bool:
        """Whether it was called that, or, where one host cannot tell, that among others."""
        return self.truth == self.cause if self.can_be_told else self.truth in self.candidates

    @property
    def can_be_told(self) -> bool:
        """Whether one host can tell it from all other causes."""
        return not self.scene.untold and self.truth not in ONLY_BESIDE

    @property
    def is_falsely_certain(self) -> bool:
        """Whether it says that it cannot be otherwise, but it was."""
        return not self.is_right and self.confidence >= CERTAIN

    def __str__(self) -> str:
        told = {
            name: value
            for name, value in zip(self.row.dtype.names or (), self.row.tolist(), strict=True)
            if value not in (0, b"") and str(value) != "nan" and not name.endswith(("_low", "_high"))
        }
        return f"{self.scene.name} at the {self.end}: {self.truth.key} was called {self.cause.key}: {told}"


@dataclass(frozen=True)
class Played:
    """What became of all scenes."""

    verdicts: list[Verdict]
    failures: dict[str, BaseException]  # by the name of a scene that could not be played
    lost: Mapping[End, int]  # ends that were counted and not reported: other tests may end thousands at once

    def of(self, scene: Scene, end: End) -> list[Verdict]:
        """What that end was called: once, if all is well."""
        return [each for each in self.verdicts if (each.scene, each.end) == (scene, end)]


def play(scenes: Sequence[Scene], engine: str = "bpf", loss: int = 0) -> Played:
    """Play these at once, over a path of this loss; return the ends that were seen by this engine, examined."""
    with contextlib.closing(Rig(loss)) as rig, contextlib.ExitStack() as stack:
        watch = stack.enter_context(watching(rig.client, rig.server, watch=DeathWatch(engine, idle=1.0)))
        there = stack.enter_context(
            watching(rig.server, watch=DeathWatch(engine, idle=1.0))
        )  # as a daemon of that host: to one of the client's the server is a container
        plays = [Play(rig, scene, FIRST_PORT + number) for number, scene in enumerate(scenes)]
        for each in plays:
            stack.callback(each.stack.close)
        with ThreadPoolExecutor(max_workers=len(plays)) as threads:
            running = [threads.submit(_play, each, closes=engine != "bpf") for each in plays]
            namespaces: dict[End, int] = {"client": rig.client.inode, "server": rig.server.inode}
            _await(watch, there, plays, running, ENDS[engine])
        errors = {each.scene.name: run.exception() for each, run in zip(plays, running, strict=True)}
        return Played(
            list(_judge(_of_both(watch, there, namespaces), watch.unknown, plays, namespaces, ENDS[engine])),
            {name: error for name, error in errors.items() if error},
            {"client": watch.lost, "server": there.lost},
        )


def settled(scenes: Sequence[Scene], engine: str = "bpf") -> Played:
    """Play these, and once more those whose true cause is not named, or another one is called certain.

    A machine that stands still for seconds makes a silence of what should have none, and another end of that.
    """
    first = play(scenes, engine)
    untrue = [each.scene for each in first.verdicts if each.truth not in each.candidates or each.is_falsely_certain]
    doubtful = [scene for scene in scenes if scene in untrue]
    if not doubtful:
        return first
    again = play(doubtful, engine)
    verdicts = [*(each for each in first.verdicts if each.scene not in doubtful), *again.verdicts]
    lost = {end: first.lost[end] + again.lost[end] for end in first.lost}
    return Played(verdicts, first.failures | again.failures, lost)


def _play(scene: Play, *, closes: bool) -> None:
    """Play it, and close what is open if an end is seen only then."""
    scene.scene.play(scene)
    if closes:
        scene.stack.close()


def _await(
    watch: Watch, there: Watch, plays: Sequence[Play], running: Sequence[Future[None]], ends: frozenset[End]
) -> None:
    """Until all are played, and all of their ends have been seen, or nothing more comes."""
    wanted = sum(len(each.scene.truth.keys() & ends) for each in plays)
    there_wanted = sum("server" in each.scene.truth.keys() & ends for each in plays)
    last, count = time.monotonic(), 0
    while time.monotonic() < last + PATIENCE:
        watch.wait(0.1)
        there.wait(0)
        ended = len(watch.ended) + len(there.ended)
        if not all(each.done() for each in running) or ended != count:
            last, count = time.monotonic(), ended
        elif len(_wanted(watch.ended, plays)) >= wanted and len(_wanted(there.ended, plays)) >= there_wanted:
            return


def _of_both(watch: Watch, there: Watch, namespaces: dict[End, int]) -> Column:
    """Return the ends of the client's and those of the server, each as it is seen on its own host."""
    return np.concatenate([watch.ended[watch.ended["netns"] == namespaces["client"]], there.ended])


def _wanted(ended: Column, plays: Sequence[Play]) -> set[tuple[int, int]]:
    seen = set(zip(ended["local_port"].tolist(), ended["remote_port"].tolist(), strict=True))
    return seen & {each.ports[end] for each in plays if each.ports for end in each.scene.truth}


def _judge(
    ended: Column, unknown: frozenset[str], plays: Sequence[Play], namespaces: dict[End, int], ends: frozenset[End]
) -> Iterator[Verdict]:
    causes = decide(ended, unknown=unknown)
    for each in plays:
        for end in each.scene.truth.keys() & ends if each.ports else ():
            local, remote = each.ports[end]
            ours = (ended["local_port"] == local) & (ended["remote_port"] == remote)
            for row in np.flatnonzero(ours & (ended["netns"] == namespaces[end])).tolist():
                yield Verdict(
                    each.scene,
                    end,
                    ended[row],
                    Cause(int(causes.cause[row])),
                    float(causes.confidence[row]),
                    causes.candidates(row),
                    int(causes.hop[row]),
                )


@dataclass(frozen=True)
class Row:
    """What the ends of one true cause were called, of those that an engine may see."""

    truth: Cause
    made: int
    right: int
    named: int  # as the cause, or beside it
    called: list[tuple[Cause, int]]  # the most frequent first


def rows(played: Played, scenes: Sequence[Scene], engine: str) -> list[Row]:
    """Return a row for each true cause of which an end was made that this engine may see."""
    truths = [truth for scene in scenes for end, truth in scene.truth.items() if end in ENDS[engine]]
    seen = [each for each in played.verdicts if each.end in ENDS[engine]]
    return [
        _row(truth, truths.count(truth), [each for each in seen if each.truth == truth]) for truth in sorted({*truths})
    ]


def _row(truth: Cause, made: int, called: Sequence[Verdict]) -> Row:
    right = sum(each.is_right for each in called)
    named = sum(each.truth in each.candidates for each in called)
    return Row(truth, made, right, named, Counter(each.cause for each in called).most_common())


def totals(table: Sequence[Row]) -> tuple[int, int, int]:
    """Return how many ends were right, named and made in all."""
    return sum(row.right for row in table), sum(row.named for row in table), sum(row.made for row in table)


def matrix(played: Played, scenes: Sequence[Scene], engine: str = "bpf") -> str:
    """Each true cause, and what its ends were called that this engine may see."""
    table = rows(played, scenes, engine)
    right, named, made = totals(table)
    lines = [f"{engine}: true cause, right, named at all, of all that were made; what they were called"]
    for row in table:
        names = ", ".join(f"{cause.key} {count}" for cause, count in row.called)
        lines.append(f"  {row.truth.key:<28}{row.right:>3} {row.named:>3} of {row.made:<3} {names or 'not seen'}")
    return "\n".join([*lines, f"  {'all':<28}{right:>3} {named:>3} of {made}"])
