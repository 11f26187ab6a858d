"""What is valid in a configuration and yet will not do what it is meant to."""

from __future__ import annotations

from collections.abc import Iterator

from keepaliveD.config import Config, rules
from keepaliveD.duration import span
from keepaliveD.policy.meaning import ENOUGH, probes_before


def warnings(config: Config) -> Iterator[str]:
    """Yield a line for each doubt: for `keepalivectl check`, and for the daemon's log at start and reload."""
    yield from _paths(config)
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
