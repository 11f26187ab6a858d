"""What earlier calls of keepalivectl why --fix have written, so that nothing is written twice.

A second rule for the same connections would shadow the first one, or be shadowed by it.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keepaliveD.cli.why.forgotten import HelpfulPath
from keepaliveD.cli.why.solutions import Settings, Solution
from keepaliveD.config.drop_ins import written_by_why

HOW = ("action", "idle", "interval", "probes")  # keys of a rule that select nothing
Tables = Mapping[str, Any]


def without_written(solution: Solution, config: Path | None, file: Path) -> tuple[Solution, list[Path]]:
    """Return what of a solution no earlier call has written, and the files that have the rest.

    The solution would go into `file`, in place of what stands there: that counts only if it is the whole of it.
    """
    if not solution.helps:
        return solution, []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if file.read_text(encoding="utf-8").splitlines() == solution.lines:
            return Solution(), [file]
    others = {each: _tables(each) for each in written_by_why(config) if each != file}
    paths = {path: [each for each, tables in others.items() if _has_path(tables, path)] for path in solution.paths}
    rules = {rule: [each for each, tables in others.items() if _has_rule(tables, rule)] for rule in solution.rules}
    new_paths = tuple(path for path, there in paths.items() if not there)
    new_rules = tuple(rule for rule, there in rules.items() if not there)
    having = dict.fromkeys(each for there in (*paths.values(), *rules.values()) for each in there)
    return Solution(new_paths, new_rules, solution.interval if new_paths else ""), list(having)


def _tables(file: Path) -> Tables:
    """Return what stands in a file; nothing where somebody has changed it so that it is no TOML."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return tomllib.loads(file.read_text(encoding="utf-8"))
    return {}


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
