"""What is wrong with a configuration, each in one line: file, key, problem, and what would be right."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator

from pydantic_core import ErrorDetails

from keepaliveD import duration
from keepaliveD.config.catalogue import catalogue
from keepaliveD.config.document import SECTIONS, Document, beginning
from keepaliveD.config.files import Key, Merged
from keepaliveD.model import MAX_PROBES
from keepaliveD.text import printable, quoted


def explain(details: ErrorDetails, merged: Merged) -> str:
    """One line for one of pydantic's findings."""
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
            problem = f"{_shown(details['input'])} is not one of {context['expected']}"
        case "greater_than_equal" | "less_than_equal":
            limits = {"probes": f"1 to {MAX_PROBES}"}.get(str(location[-1]), "1 to 65535")
            problem = f"{_shown(details['input'])} is out of range; write {limits}"
        case "string_too_short":
            problem = "is empty; leave it out to match everything"
        case "model_type":
            problem = f"begin it with {beginning(str(location[0]))}"  # the others were checked as they were read
        case _:
            problem = f"{_shown(details['input'])} is of the wrong kind: {details['msg'].lower()}"
    return _line(location, merged, problem)


def together(document: Document, merged: Merged) -> Iterator[str]:
    """What no key can say alone."""
    yield from _keepalive(document, merged)
    yield from _watch(document, merged)
    yield from _paths(document, merged)
    yield from _arm(document, merged)


def _line(location: Key, merged: Merged, problem: str) -> str:
    return f"{merged.origin(location)}: {_label(location)}: {problem}"


def _label(location: Key) -> str:
    """A key as people write it: path[2].timeout, entries counted from 1."""
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{quoted(part)}" if text else quoted(part)
    return text


def _shown(value: object) -> str:
    """What was written, as far as it can be shown in a line."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _unknown_key(location: Key) -> str:
    fields = SECTIONS[str(location[0])].model_fields if len(location) > 1 else Document.model_fields
    known = sorted(fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return "unknown key; " + (f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}")


def _keepalive(document: Document, merged: Merged) -> Iterator[str]:
    keepalive = document.keepalive
    if keepalive.interval > keepalive.idle:
        yield _line(("keepalive", "interval"), merged, _too_long_an_interval(keepalive.interval, keepalive.idle))


def _too_long_an_interval(interval: int, idle: int) -> str:
    return (
        f"{interval}s is longer than idle ({idle}s); "
        "the kernel would then probe only at every interval, so write at most idle"
    )


def _watch(document: Document, merged: Merged) -> Iterator[str]:
    watch = document.watch
    if watch.warn_before < watch.interval:
        yield _line(
            ("watch", "warn_before"),
            merged,
            f"{duration.span(watch.warn_before)} is shorter than watch.interval "
            f"({duration.span(watch.interval)}), and a connection could be cut between two looks; "
            f"write at least {duration.span(watch.interval)}",
        )


def _paths(document: Document, merged: Merged) -> Iterator[str]:
    first: dict[str, int] = {}
    for number, path in enumerate(document.path):
        if path.name in first:
            other = merged.origin(("path", first[path.name]))
            yield _line(
                ("path", number, "name"), merged, f'"{path.name}" is taken by path[{first[path.name] + 1}] in {other}'
            )
        first.setdefault(path.name, number)
        if (path.timeout is None) == (path.preset is None):
            yield _line(("path", number), merged, f'"{path.name}" needs either a timeout or a preset')
        elif path.preset is not None and path.preset not in catalogue():
            close = difflib.get_close_matches(path.preset, catalogue(), n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(catalogue())}"
            preset = f'"{printable(path.preset)}"'
            yield _line(("path", number, "preset"), merged, f"{preset} is not in the catalogue; {hint}")


def _arm(document: Document, merged: Merged) -> Iterator[str]:
    for number, rule in enumerate(document.arm):
        idle, interval = rule.idle or document.keepalive.idle, rule.interval or document.keepalive.interval
        if isinstance(idle, int) and interval > idle and (rule.idle or rule.interval):
            key = "interval" if rule.interval else "idle"
            yield _line(("arm", number, key), merged, _too_long_an_interval(interval, idle))
