"""What is valid in a configuration and yet will not do what it is meant to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keepaliveD.config import Config, rules
from keepaliveD.model.duration import span
from keepaliveD.model.rules import Path
from keepaliveD.model.text import quoted
from keepaliveD.policy.meaning import ENOUGH, probes_before


def warnings(config: Config) -> Iterator[str]:
    """Yield a line for each doubt: for `keepalivectl check`, and for the daemon's log at start and reload."""
    yield from _paths(config)
    yield from _shadowed(config.paths)
    yield from rules.warnings(config)


def _paths(config: Config) -> Iterator[str]:
    for path in config.paths:
        probes = probes_before(config.keepalive, path.timeout)
        if probes < ENOUGH:
            yield (
                f'path "{path.name}": {probes:.0f} of at least {ENOUGH} probes leave before it forgets after '
                f"{span(path.timeout)}; choose a shorter keepalive.idle or keepalive.interval"
            )
        if path.timeout / 2 < config.interval:
            yield (
                f'path "{path.name}": it forgets after {span(path.timeout)}, but sockets are looked at only every '
                f"{span(config.interval)}; a warning may come too late: choose a shorter watch.interval"
            )


def _shadowed(paths: Sequence[Path]) -> Iterator[str]:
    """Paths that no connection takes: of those that match equally well the first counts."""
    for number, path in enumerate(paths):
        before = next((each for each in paths[1:number] if _takes_all_of(each, path)), None)
        if before:
            yield (
                f"path {quoted(path.name)}: no connection takes it, because path {quoted(before.name)} before it "
                "has the same selectors; remove one of the two, or give it other networks, ports or an interface"
            )


def _takes_all_of(one: Path, other: Path) -> bool:
    """Whether `one` matches whatever `other` does, and no less specifically (policy.paths)."""
    return (
        one.interface == other.interface and _covers(one.ports, other.ports) and _covers(one.networks, other.networks)
    )


def _covers(one: Sequence[object], other: Sequence[object]) -> bool:
    """Without any, all are meant, but less specifically."""
    return bool(one) == bool(other) and set(one) >= set(other)
