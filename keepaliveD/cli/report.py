"""Explain a configuration: what its settings mean for connections."""

from __future__ import annotations

import math
from collections.abc import Iterator

from keepaliveD.config import Config, rules
from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.duration import FOREVER, span
from keepaliveD.model.rules import Path
from keepaliveD.model.text import printable
from keepaliveD.policy.arming.meaning import ENOUGH, explain, probes_before, traffic

SOCKETS = (100, 10_000)  # for which the traffic is told


def meaning(config: Config) -> Iterator[str]:
    """Line by line."""
    keepalive = config.keepalive
    means = explain(keepalive)
    yield f"valid: {', '.join(printable(str(file)) for file in config.files) or 'the built-in defaults'}"
    yield ""
    yield f"keepalive           {keepalive}" + ("" if config.apply else " (not applied: keepalive.apply = false)")
    late = span(math.ceil(means.first_probe_latest))
    yield f"first probe         after {span(means.first_probe)} without a packet, {late} at the latest"
    yield f"last probe          after {span(means.last_probe)}, if no probe is answered"
    yield f"dead peer noticed   after {span(means.dead_after)}"
    yield f"outage survived     {span(means.outage)}, by an idle connection"
    for sockets in SOCKETS:
        packets, bits = traffic(keepalive, sockets)
        yield f"probe traffic       {packets:.1f} packets/s, {bits / 1000:.1f} kbit/s for {sockets:,} idle connections"
    yield ""
    width = max(len(path.name) for path in config.paths)
    for path in config.paths:
        yield f"path {path.name.ljust(width)}  {_fit(config, path)}"
    yield ""
    yield from rules.meaning(config)


def _fit(config: Config, path: Path) -> str:
    if path.timeout == FOREVER:
        return f"never forgets ({path.origin})"
    if path.counts is WhatCounts.DATA:
        return f"forgets after {span(path.timeout)} without data ({path.origin}): keepalive does not help"
    probes = probes_before(config.keepalive, path.timeout)
    before = f"{probes:.0f} probe{'' if probes == 1 else 's'} before that"
    if probes < ENOUGH and rules.is_armed(config, path):
        before += " by the settings above; a rule arms connections there in time"
    return f"forgets after {span(path.timeout)} ({path.origin}): {before}"
