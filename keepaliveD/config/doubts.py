"""Warnings: settings that are valid and yet will not do what they are meant to."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from keepaliveD.config import rules
from keepaliveD.config.configuration import Config
from keepaliveD.model.connections import WhatCounts
from keepaliveD.model.duration import span
from keepaliveD.model.origin import Source
from keepaliveD.model.rules import IPNetwork, Path
from keepaliveD.model.text import quoted
from keepaliveD.policy.arming.meaning import ENOUGH, probes_before

A_DAY = datetime.timedelta(days=1)  # by which the date in another time zone may differ


def warnings(config: Config, today: datetime.date | None = None) -> Iterator[str]:
    """Yield the warnings, a line each, for `keepalivectl check` and for the daemon's log at start and reload.

    `today` is the date, by default that of this host.
    """
    yield from config.notes
    yield from _ignored(config.ignore)
    yield from _paths(config)
    yield from _warned_late(config)
    yield from _future(config.paths, today or datetime.datetime.now().astimezone().date())
    yield from _shadowed(config.paths)
    yield from rules.warnings(config)


def _ignored(ignore: Sequence[IPNetwork]) -> Iterator[str]:
    """Yield a warning for each family of addresses of which no connection is watched."""
    for network in ignore:
        if network.prefixlen == 0:
            family = f"IPv{network.version}"
            yield f"watch.ignore: {network} covers all {family} addresses, so no {family} connection is watched"


def _paths(config: Config) -> Iterator[str]:
    remedy = (
        'write an [[arm]] entry for the path with action = "enable" and idle = "auto", '
        "or choose a shorter keepalive.idle or keepalive.interval"
    )
    if config.keepalive.probes < ENOUGH:
        remedy = f"write keepalive.probes = {ENOUGH} or more"
    for path in config.paths:
        probes = probes_before(config.keepalive, path.timeout)
        if probes < ENOUGH and path.counts is WhatCounts.PACKETS and not rules.is_armed(config, path):
            yield (
                f"path {quoted(path.name)}: only {probes:.0f} of at least {ENOUGH} probes can leave before it forgets "
                f"after {span(path.timeout)}; {remedy}"
            )
        if path.timeout / 2 < config.interval:
            yield (
                f"path {quoted(path.name)}: forgets after {span(path.timeout)}, but sockets are scanned only every "
                f"{span(config.interval)}, so a warning may come too late; choose a shorter watch.interval"
            )


def _warned_late(config: Config) -> Iterator[str]:
    """Yield a warning of a time before a cut that somebody chose, and that is more than half of an idle timeout.

    Not where it is the default: that a hurried path is warned of later is as it should be.
    """
    hurried = [path for path in config.paths if path.timeout / 2 < config.warn_before]
    if not hurried or config.warns_as_usual:
        return
    most = min(hurried, key=lambda path: path.timeout)
    half = span(most.timeout / 2)
    yield (
        f"watch.warn_before: {span(config.warn_before)} is too long for {len(hurried)} path{'s' * (len(hurried) > 1)}: "
        f"a warning comes half of the idle timeout before at most, of path {quoted(most.name)} ({span(most.timeout)}) "
        f"{half} before; write at most {half}"
    )


def _future(paths: Sequence[Path], today: datetime.date) -> Iterator[str]:
    """Yield a warning for each date in the future: no error, for this host's clock may be the one that is wrong."""
    for path in paths:
        if path.origin.source is Source.MEASURED and datetime.date.fromisoformat(path.origin.detail) > today + A_DAY:
            yield (
                f"path {quoted(path.name)}: measured = {path.origin.detail} is in the future, today is {today}; "
                "correct the date, or the clock of this host"
            )


def _shadowed(paths: Sequence[Path]) -> Iterator[str]:
    """Yield a warning for each path that no connection takes: of equally specific paths the first counts."""
    for number, path in enumerate(paths):
        before = next((each for each in paths[1:number] if _takes_all_of(each, path)), None)
        if before:
            yield (
                f"path {quoted(path.name)}: never matches, path {quoted(before.name)} before it has the same "
                "selectors; remove one of the two, or give it other networks, ports or an interface"
            )


def _takes_all_of(one: Path, other: Path) -> bool:
    """Whether `one` matches whatever `other` does, and no less specifically (policy.paths)."""
    return (
        one.interface == other.interface and _covers(one.ports, other.ports) and _covers(one.networks, other.networks)
    )


def _covers(one: Sequence[object], other: Sequence[object]) -> bool:
    """Without any, all are meant, but less specifically."""
    return bool(one) == bool(other) and set(one) >= set(other)
