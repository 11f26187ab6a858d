"""What earlier calls of keepalivectl why --fix have written, so that nothing is written twice.

A second rule for the same connections would shadow the first one, or be shadowed by it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keepaliveD.cli.why.forgotten import HelpfulPath
from keepaliveD.cli.why.solutions import Settings, Solution
from keepaliveD.config.drop_ins import drop_in, written_by_why

HOW = ("action", "idle", "interval", "probes")  # keys of a rule that select nothing
MOST = 1000  # files of one name
Tables = Mapping[str, Any]


def without_written(solution: Solution, config: Path | None, file: Path) -> tuple[Solution, list[Path]]:
    """Return what of a solution no earlier call has written, and the files that have the rest.

    The solution would go into `file`, which place_of() chooses.
    """
    if not solution.helps:
        return solution, []
    if text_of(file).splitlines() == solution.lines:
        return Solution(), [file]
    others = {each: _tables(each) for each in written_by_why(config) if each != file}
    paths = {path: [each for each, tables in others.items() if _has_path(tables, path)] for path in solution.paths}
    rules = {rule: [each for each, tables in others.items() if _has_rule(tables, rule)] for rule in solution.rules}
    new_paths = tuple(path for path, there in paths.items() if not there)
    new_rules = tuple(rule for rule, there in rules.items() if not there)
    having = dict.fromkeys(each for there in (*paths.values(), *rules.values()) for each in there)
    return Solution(new_paths, new_rules, solution.interval if new_paths else ""), list(having)


def place_of(solution: Solution, config: Path | None) -> Path:
    """Return the file for a solution: one that is not there, or in which stands nothing but an earlier one like it.

    A file that somebody has changed, or that is about others, stays. The file with a number is read before it.
    """
    first = drop_in(config, solution.name)
    others = (first.with_name(f"{first.stem}-{number}{first.suffix}") for number in itertools.count(2))
    return next(file for file in (first, *itertools.islice(others, MOST)) if _is_free(file, solution))


def _is_free(file: Path, solution: Solution) -> bool:
    """Return whether a solution may go into a file: it loses nothing but earlier times for the same connections."""
    if not os.path.lexists(file) or (file.is_file() and not file.stat().st_size):
        return True
    text = text_of(file)
    tables, wanted = _tables(file), tomllib.loads("\n".join(solution.lines))
    has_notes = any(line.lstrip().startswith("#") for line in text.splitlines())
    return bool(tables) and not has_notes and _about(tables) <= _about(wanted)


def _about(tables: Tables) -> set[str]:
    """Return what paths and rules are about, and which other tables there are."""
    rules = [{key: value for key, value in each.items() if key not in HOW} for each in _entries(tables, "arm")]
    paths = [{key: value for key, value in each.items() if key != "timeout"} for each in _entries(tables, "path")]
    keys = {f"watch.{key}" for key in tables.get("watch", {})}
    return keys | {repr(sorted(each.items())) for each in (*rules, *paths)} | {*tables}


def _tables(file: Path) -> Tables:
    """Return what stands in a file; nothing where somebody has changed it so that it is no TOML."""
    with contextlib.suppress(ValueError, RecursionError):
        return tomllib.loads(text_of(file))
    return {}


def text_of(file: Path) -> str:
    """Return what stands in a file; "" where it is no file, such as a pipe, in which nothing may ever come."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    return ""


def _entries(tables: Tables, name: str) -> Sequence[Mapping[str, Any]]:
    entries = tables.get(name)
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def _has_path(tables: Tables, path: HelpfulPath) -> bool:
    """Return whether a path with this name, network and timeout is there."""
    wanted = tomllib.loads("\n".join(path.lines))["path"][0]
    return wanted in _entries(tables, "path")


def _has_rule(tables: Tables, rule: Settings) -> bool:
    """Return whether a rule is there that arms the same connections, or more, by the idle time that fits their path."""
    return any(_arms(each, dict(rule)) for each in _entries(tables, "arm"))


def _arms(there: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    selectors = {key: value for key, value in there.items() if key not in HOW}
    is_alike = all(there.get(key) == wanted[key] for key in ("action", "idle"))
    return is_alike and all(str(value) == wanted.get(key) for key, value in selectors.items())
