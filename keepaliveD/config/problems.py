"""What is wrong with a configuration, each in one line: file, line, key, problem, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pydantic_core import ErrorDetails

from keepaliveD.config.catalogue import catalogue
from keepaliveD.config.document import LONGEST_PATTERN, SECTIONS, Document, beginning
from keepaliveD.config.files import Merged, Place
from keepaliveD.config.lines import Key
from keepaliveD.model.keepalive import MAX_PROBES
from keepaliveD.model.text import shortened, shown

MOST = 50  # lines about one configuration
ONE_AN_INTERVAL = "the kernel would then probe only once an interval"


class Problem(NamedTuple):
    """What is wrong, and where; problems are in the order of the files and their lines."""

    place: Place
    said: str

    def __str__(self) -> str:
        return f"{self.place}: {self.place.label}: {self.said}"


class Given(NamedTuple):
    """A time span that another one depends on: its name for people, its key, and its default."""

    name: str
    key: Key
    default: float


def told(problems: Iterable[Problem]) -> str:
    """A line for each, in the order in which somebody corrects them."""
    in_order = sorted(problems, key=lambda problem: problem.place[:2])
    lines = [str(problem) for problem in in_order[:MOST]]
    if len(in_order) > MOST:
        place = in_order[MOST].place
        lines.append(str(Problem(place, f"and {len(in_order) - MOST - 1} more problems from here on")))
    return "\n".join(lines)


def explain(details: ErrorDetails, merged: Merged) -> Problem:
    """One of pydantic's findings."""
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
            problem = f"{shown(details['input'])} is of the wrong kind: {details['msg'].lower()}"
    return Problem(merged.place(location), problem)


def together(document: Document, merged: Merged) -> Iterator[Problem]:
    """What no key can say alone."""
    yield from _keepalive(document, merged)
    yield from _watch(document, merged)
    yield from _paths(document, merged)
    yield from _arm(document, merged)


def _unknown_key(location: Key) -> str:
    fields = SECTIONS[str(location[0])].model_fields if len(location) > 1 else Document.model_fields
    known = sorted(fields)
    close = difflib.get_close_matches(shortened(str(location[-1])), known, n=1)
    return "unknown key; " + (f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}")


def _disagreement(longer: Given, shorter: Given, because: str, merged: Merged) -> Problem:
    """Two time spans that contradict each other, told where the one that was written last stands."""
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


def _paths(document: Document, merged: Merged) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for number, path in enumerate(document.path):
        name = shown(path.name)
        if path.name in first:
            other = merged.place(("path", first[path.name], "name"))
            yield Problem(merged.place(("path", number, "name")), f"{name} is taken by the path in {other}")
        first.setdefault(path.name, number)
        if (path.timeout is None) == (path.preset is None):
            yield Problem(merged.place(("path", number)), f"{name} needs either a timeout or a preset")
        elif path.preset is not None and path.preset not in catalogue():
            close = difflib.get_close_matches(shortened(path.preset), catalogue(), n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(catalogue())}"
            yield Problem(
                merged.place(("path", number, "preset")), f"{shown(path.preset)} is not in the catalogue; {hint}"
            )


def _arm(document: Document, merged: Merged) -> Iterator[Problem]:
    """Rules whose times contradict each other, or those of the system that they take."""
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
    """A time span that holds also where nobody wrote it."""
    return Given(f"{section}.{key}", (section, key), SECTIONS[section].model_fields[key].default)
