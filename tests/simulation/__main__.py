"""Simulate many hosts, and count what was said wrongly: see --help."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation.run import Run, run
from tests.simulation.scans import EngineName
from tests.simulation.story import tell
from tests.simulation.truth import INVARIANTS, Breach, Judge, Wrong
from tests.simulation.world import world


class Tally:
    """Counts, by engine."""

    def __init__(self) -> None:
        self.wrong: dict[EngineName, Counter[Wrong]] = {engine: Counter() for engine in EngineName}
        self.sizes: dict[EngineName, Counter[str]] = {engine: Counter() for engine in EngineName}
        self.stories: dict[Wrong, list[str]] = {}

    def add(self, done: Run, stories: int, only: int | None) -> None:
        """One run, or one connection of it."""
        judge = Judge(done)
        breaches = [breach for breach in judge.breaches() if only is None or breach.number == only]
        self.wrong[done.engine].update(breach.wrong for breach in breaches)
        self.sizes[done.engine].update(
            {
                "firewall hours": done.hours,
                "lifetimes": judge.lifetimes,
                "forgotten": judge.deaths,
                "armed": len(done.armed),
                "scans": len(done.scans),
                "rows judged": done.rows,
            }
        )
        for breach in breaches:
            if breach.wrong in INVARIANTS:
                self._keep(done, breach, stories)

    def _keep(self, done: Run, breach: Breach, stories: int) -> None:
        kept = self.stories.setdefault(breach.wrong, [])
        if len(kept) < stories:
            kept.append(tell(done, breach))

    def lines(self) -> Iterator[str]:
        """The table."""
        bpf, netlink = EngineName.BPF, EngineName.NETLINK
        yield f"{'':60} {'bpf':>10} {'netlink':>10}"
        for name in self.sizes[bpf]:
            yield f"{name:60} {self.sizes[bpf][name]:10.0f} {self.sizes[netlink][name]:10.0f}"
        for wrong in Wrong:
            yield f"{wrong.value:60} {self.wrong[bpf][wrong]:10} {self.wrong[netlink][wrong]:10}"

    @property
    def hours(self) -> float:
        """Of connections behind firewalls, while the daemon watched."""
        return sum(sizes["firewall hours"] for sizes in self.sizes.values())

    @property
    def broken(self) -> int:
        """How often an invariant did not hold."""
        return sum(counter[wrong] for counter in self.wrong.values() for wrong in INVARIANTS)


def simulate(options: argparse.Namespace) -> Tally:
    """Play worlds, every other one with arming, each with both engines, until it is enough."""
    tally = Tally()
    end = time.process_time() + options.seconds
    number = 0
    while tally.hours < options.hours and time.process_time() < end:
        play(tally, f"{options.seed}-{number}", options, arming=number % 2 == 1)
        number += 1
    return tally


def play(tally: Tally, seed: str, options: argparse.Namespace, *, arming: bool) -> None:
    """One world with both engines."""
    for engine in EngineName:
        drawn = world(
            seed,
            options.size,
            arming=arming,
            timeout=options.timeout,
            interval=options.interval,
            only_data=options.only_data,
        )
        tally.add(run(drawn, engine), options.stories, options.only)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="script/simulate", description=__doc__)
    parser.add_argument("--seed", default="1", help="worlds are SEED-0, SEED-1 and so on")
    parser.add_argument("--hours", type=float, default=1e5, help="of connections behind firewalls")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of processor time at most")
    parser.add_argument("--size", type=int, default=1000, help="connections in a world")
    parser.add_argument("--stories", type=int, default=1, help="to tell of each kind")
    parser.add_argument("--timeout", type=float, default=0, help="of all paths, in seconds; else many")
    parser.add_argument("--interval", type=float, default=0, help="from scan to scan, in seconds; else many")
    parser.add_argument("--only-data", action="store_true", help="every other path counts only data")
    parser.add_argument("--world", help="play only this one, by its seed")
    parser.add_argument("--arming", action="store_true", help="with arming, for --world")
    parser.add_argument("--only", type=int, help="tell all that is wrong with this connection, for --world")
    options = parser.parse_args()
    start = time.process_time()
    if options.world:
        tally = Tally()
        play(tally, options.world, options, arming=options.arming)
    else:
        tally = simulate(options)
    for wrong in INVARIANTS:
        for story in tally.stories.get(wrong, ()):
            print(story, end="\n\n")
    print("\n".join(tally.lines()))
    print(f"{time.process_time() - start:.0f} s of processor time; invariants broken: {tally.broken} times")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
