"""Errors of a configuration, each in one line: file, line, key, problem, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from pydantic_core import ErrorDetails

from keepaliveD.config.document import LONGEST_PATTERN, SECTIONS, Document, beginning
from keepaliveD.config.files import Merged, Place
from keepaliveD.config.lines import Key
from keepaliveD.model.keepalive import MAX_PROBES
from keepaliveD.model.text import printable, shortened, shown
from keepaliveD.places import SUFFIX

MOST = 50  # lines about one configuration
LIKENESS = 0.7  # of a mistyped key to the right one (difflib.SequenceMatcher.ratio)
EXAMPLES = {
    "probes": "31",
    "ports": "[22, 5432]",
    "networks": '["10.20.0.0/16"]',
    "ignore": '["10.20.0.0/16"]',
    "name": '"office firewall"',
    "interface": '"eth1"',
    "preset": '"aws-nlb"',
    "unit": '"amanda*.service"',
    "process": '"amandad"',
    "container": '"*"',
    "path": '"office*"',
    "log": '["unexpected"]',
}
TRUTHS = "true or false"  # of keys without an example: they are switches
ONE_AN_INTERVAL = "the kernel would then send only one probe per interval"


class Problem(NamedTuple):
    """A problem and its place; problems are sorted by file and line."""

    place: Place
    said: str

    def __str__(self) -> str:
        return f"{self.place}: {self.place.label}: {self.said}"


class Given(NamedTuple):
    """A time span that another one depends on: its name for people, its key, and its default."""

    name: str
    key: Key
    default: float


def as_lines(problems: Iterable[Problem]) -> str:
    """Return a line for each problem, in the order of the files."""
    in_order = sorted(problems, key=lambda problem: problem.place[:2])
    lines = [str(problem) for problem in in_order[:MOST]]
    if len(in_order) > MOST:
        place = in_order[MOST].place
        lines.append(str(Problem(place, f"and {len(in_order) - MOST - 1} more problems from here on")))
    return "\n".join(lines)


def explain(details: ErrorDetails, merged: Merged) -> Problem:
    """Return the problem that pydantic has found."""
    location: Key = tuple(details["loc"])
    context = details.get("ctx", {})
    match details["type"]:
        case "value_error":
            problem = str(context["error"])
        case "extra_forbidden":
            problem = _unknown_key(location)
        case "missing":
            problem = "is missing"
        case "literal_error":
            problem = f"{shown(details['input'])} is not one of {context['expected']}"
        case "greater_than_equal" | "less_than_equal":
            limits = {"probes": f"1 to {MAX_PROBES}"}.get(str(location[-1]), "1 to 65535")
            problem = f"{shown(details['input'])} is out of range; write {limits}"
        case "string_too_short":
            problem = "is empty; leave it out to match everything"
        case "string_too_long":
            problem = f"{shown(details['input'])} is too long; write at most {LONGEST_PATTERN} characters"
        case "model_type":
            problem = f"begin it with {beginning(str(location[0]))}"  # the others were checked as they were read
        case _:
            key = next(part for part in reversed(location) if isinstance(part, str))
            example = EXAMPLES.get(key, TRUTHS)
            problem = f"{shown(details['input'])} is of the wrong kind; write {key} = {example}"
    return Problem(merged.place(location), problem)


def notes(document: Document, merged: Merged) -> Iterator[str]:
    """Yield a warning for each empty list, which selects nothing, and for each file in config.d that is not read."""
    for section, entries in (("path", document.path), ("arm", document.arm)):
        for number, entry in enumerate(entries):
            for key in sorted(entry.model_fields_set):
                if getattr(entry, key) == []:
                    place = merged.place((section, number, key))
                    yield str(Problem(place, "an empty list matches everything; leave it out, or name what to match"))
    for file in merged.unread:
        yield f"{printable(str(file))}: is not read: its name does not end in {SUFFIX}; rename or remove it"


def together(document: Document, merged: Merged) -> Iterator[Problem]:
    """Yield the problems of keys that are wrong only in combination."""
    yield from _keepalive(document, merged)
    yield from _watch(document, merged)
    yield from of_paths(merged)
    yield from _arm(document, merged)


def _unknown_key(location: Key) -> str:
    key = str(location[-1])
    fields = SECTIONS[str(location[0])].model_fields if len(location) > 1 else Document.model_fields
    known = sorted(fields)
    if close := difflib.get_close_matches(shortened(key), known, n=1, cutoff=LIKENESS):
        return f"unknown key; did you mean {close[0]}?"
    if homes := [beginning(name) for name, section in SECTIONS.items() if key in section.model_fields]:
        return f"unknown key here; it belongs in {' or '.join(homes)}"
    return f"unknown key; known here: {', '.join(known)}"


def _disagreement(longer: Given, shorter: Given, because: str, merged: Merged) -> Problem:
    """Return the problem of two time spans that contradict each other, at the place of the later one."""
    written = [given for given in (longer, shorter) if merged.is_written(given.key)]
    last = max(written, key=lambda given: merged.place(given.key)[:2])
    other, relation, least_or_most = (shorter, "longer", "most") if last is longer else (longer, "shorter", "least")
    where = merged.place(other.key) if merged.is_written(other.key) else "the default"
    value, limit = (shown(merged.value(given.key, f"{given.default:g}s")) for given in (last, other))
    return Problem(
        merged.place(last.key),
        f"{value} is {relation} than {other.name} ({limit}, {where}); {because}: write at {least_or_most} {limit}",
    )


def _keepalive(document: Document, merged: Merged) -> Iterator[Problem]:
    keepalive = document.keepalive
    if keepalive.interval > keepalive.idle:
        yield _disagreement(_default("keepalive", "interval"), _default("keepalive", "idle"), ONE_AN_INTERVAL, merged)


def _watch(document: Document, merged: Merged) -> Iterator[Problem]:
    watch = document.watch
    if watch.warn_before < watch.interval:
        longer, shorter = _default("watch", "interval"), _default("watch", "warn_before")
        yield _disagreement(longer, shorter, "a connection could be forgotten between two scans", merged)


def of_paths(merged: Merged) -> Iterator[Problem]:
    """Yield the problems of paths in which keys are missing or contradict each other, whatever their values are."""
    first: dict[str, int] = {}
    for number, path in enumerate(merged.data.get("path", ())):
        if not isinstance(path, dict):
            continue
        name = path["name"] if isinstance(path.get("name"), str) else ""
        if name in first:
            other = merged.place(("path", first[name], "name"))
            said = f"{shown(name)} is already the name of the path in {other}"
            yield Problem(merged.place(("path", number, "name")), said)
        if name:
            first.setdefault(name, number)
        if said := _of_timeout(path.keys()):
            yield Problem(merged.place(("path", number)), f"{shown(name)} {said}" if name else said)
        elif "measured" in path and "timeout" not in path:
            yield Problem(
                merged.place(("path", number, "measured")),
                "is the date of a timeout, and a preset was not measured; remove it, or write the measured timeout",
            )


def _of_timeout(keys: Collection[str]) -> str:
    """Return what is wrong where a path does not have exactly one of these two keys."""
    if "timeout" in keys and "preset" in keys:
        return "has both a timeout and a preset; remove one"
    return "" if "timeout" in keys or "preset" in keys else "has neither a timeout nor a preset; write one"


def _arm(document: Document, merged: Merged) -> Iterator[Problem]:
    """Yield the problems of rules whose times contradict each other, or those of [keepalive]."""
    for number, rule in enumerate(document.arm):
        idle, interval = rule.idle or document.keepalive.idle, rule.interval or document.keepalive.interval
        if isinstance(idle, int) and interval > idle and (rule.idle or rule.interval):
            longer = (
                Given("interval", ("arm", number, "interval"), 0)
                if rule.interval
                else _default("keepalive", "interval")
            )
            shorter = Given("idle", ("arm", number, "idle"), 0) if rule.idle else _default("keepalive", "idle")
            yield _disagreement(longer, shorter, ONE_AN_INTERVAL, merged)


def _default(section: str, key: str) -> Given:
    """Return a time span that has a default."""
    return Given(f"{section}.{key}", (section, key), SECTIONS[section].model_fields[key].default)
