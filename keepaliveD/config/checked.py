"""Check the configuration, and turn it into what the administrator wants. pydantic stops here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as File

from pydantic import ValidationError

from keepaliveD.config.catalogue import catalogue
from keepaliveD.config.configuration import Config
from keepaliveD.config.document import (
    ALL_CAUSES,
    DEFAULT_PATH,
    UNEXPECTED,
    ArmSection,
    Document,
    KeepaliveSection,
    PathSection,
    WatchSection,
)
from keepaliveD.config.files import Merged, read
from keepaliveD.config.problems import as_lines, explain, notes, of_paths, together
from keepaliveD.model.causes import BY_KEY, EXPECTED, Cause
from keepaliveD.model.connections import Verdict, WhatCounts
from keepaliveD.model.duration import FOREVER
from keepaliveD.model.errors import ConfigError
from keepaliveD.model.keepalive import Keepalive
from keepaliveD.model.origin import Origin, Source
from keepaliveD.model.rules import ArmAction, ArmRule, OnDrift, Path
from keepaliveD.model.text import printable


def load(file: File | None = None) -> Config:
    """Read `file` (without one: DEFAULT_FILE, if it is there) and the config.d beside it.

    Raises ConfigError with a line for every wrong key, NoInput where a file cannot be read.
    """
    merged = read(file)
    try:
        document = Document.model_validate(merged.data)
    except ValidationError as error:
        problems = [explain(details, merged) for details in error.errors()]
        raise ConfigError(as_lines([*problems, *of_paths(merged)])) from None
    if problems := list(together(document, merged)):
        raise ConfigError(as_lines(problems))
    return _config(document, merged)


def defaults() -> Config:
    """Return the configuration where nothing is written."""
    return _config(Document(), Merged())


def _config(document: Document, merged: Merged) -> Config:
    keepalive, watch = document.keepalive, document.watch
    return Config(
        keepalive=Keepalive(keepalive.idle, keepalive.interval, keepalive.probes),
        apply=keepalive.apply,
        restore_on_stop=keepalive.restore_on_stop,
        on_drift=OnDrift(keepalive.on_drift),
        keep_stricter=keepalive.keep_stricter,
        interval=watch.interval,
        warn_before=watch.warn_before,
        engine=watch.engine,
        all_namespaces=watch.namespaces == "all",
        ignore=tuple(watch.ignore),
        paths=(
            Path(DEFAULT_PATH, watch.default_timeout, _default_origin(watch, merged)),
            *(_path(section, merged.place(("path", number)).file) for number, section in enumerate(document.path)),
        ),
        arm=tuple(_rules(document)),
        disarm_on_stop=keepalive.disarm_on_stop,
        survive_stop=keepalive.survive_stop,
        autopsy=document.autopsy.enabled,
        logged_causes=frozenset(_causes(document.autopsy.log)),
        logged_units=tuple(document.autopsy.unit),
        logged_users=tuple(document.autopsy.user),
        everyone_reads=watch.readers == "everyone",
        enables=keepalive.arm == "enable",
        warns_as_usual=watch.warn_before == WatchSection.model_fields["warn_before"].default,
        files=tuple(merged.files),
        notes=tuple(notes(document, merged)),
    )


def _default_origin(watch: WatchSection, merged: Merged) -> Origin:
    """The shipped default is a guess, whether or not the shipped file with that value is still in place."""
    if watch.default_timeout == WatchSection.model_fields["default_timeout"].default:
        return Origin(Source.GUESS)
    return _configured(merged.place(("watch", "default_timeout")).file)


def _configured(file: File) -> Origin:
    return Origin(Source.CONFIGURED, printable(str(file)))


def _causes(names: list[str]) -> Iterator[Cause]:
    """The causes with these names; "unexpected" and "all" are several."""
    several = {ALL_CAUSES: set(BY_KEY.values()), UNEXPECTED: set(BY_KEY.values()) - EXPECTED}
    for name in names:
        yield from several.get(name) or (BY_KEY[name],)


def _path(section: PathSection, file: File) -> Path:
    timeout, origin, counts = section.timeout or FOREVER, _configured(file), WhatCounts.PACKETS
    if section.preset is not None:
        preset = catalogue()[section.preset]
        timeout, origin, counts = preset.timeout, Origin(Source.PRESET, section.preset), preset.counts
    if section.measured is not None:
        origin = Origin(Source.MEASURED, section.measured.isoformat())
    if section.counts is not None:
        counts = WhatCounts(section.counts)
    selectors = tuple(section.networks), tuple(section.ports), section.interface
    return Path(section.name, timeout, origin, *selectors, counts)


def _rules(document: Document) -> Iterator[ArmRule]:
    """The rules in their order, then one for all that they do not match.

    What is not in our care needs no timer to be made true.
    """
    keepalive = document.keepalive
    for number, section in enumerate(document.arm, start=1):
        yield _rule(f"arm[{number}]", section, keepalive)
    action = ArmAction(keepalive.arm) if keepalive.apply else ArmAction.OBSERVE
    yield ArmRule("keepalive.arm", action, keepalive.idle, keepalive.interval, keepalive.probes)


def _rule(name: str, section: ArmSection, keepalive: KeepaliveSection) -> ArmRule:
    idle = section.idle or keepalive.idle
    return ArmRule(
        name=name,
        action=ArmAction(section.action),
        idle=idle if isinstance(idle, int) else None,
        interval=section.interval or keepalive.interval,
        probes=section.probes or keepalive.probes,
        units=tuple(section.unit),
        processes=tuple(section.process),
        containers=tuple(section.container),
        users=tuple(section.user),
        networks=tuple(section.networks),
        ports=tuple(section.ports),
        paths=tuple(section.path),
        verdicts=tuple(Verdict[verdict.upper()] for verdict in section.verdict),
    )
