"""Who may import whom, and what: the house has floors, and a reason for every locked door."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import keepaliveD

PACKAGE = Path(keepaliveD.__file__).parent

FLOORS = {  # a room imports what stands on its own floor or below
    "keepaliveD": 0,
    "keepaliveD.model": 0,
    "keepaliveD.places": 0,
    "keepaliveD.threads": 0,
    "keepaliveD.config": 1,
    "keepaliveD.policy": 1,
    "keepaliveD.platforms": 2,
    "keepaliveD.measuring": 2,
    "keepaliveD.log": 3,
    "keepaliveD.records": 3,
    "keepaliveD.daemon": 4,
    "keepaliveD.daemon.signals": 3,
    "keepaliveD.cli": 5,
    "keepaliveD.__main__": 5,
}

PURE = "a decision must follow from its arguments alone, or no test can step across its borders"
BANNED_BELOW_THE_PLATFORMS = {
    "os": f"the operating system begins on floor 2: {PURE}",
    "socket": f"packets are read on floor 2 and handed down as columns: {PURE}",
    "time": f"time is an argument: {PURE}",
    "asyncio": "nothing down here waits for anything",
    "subprocess": "nothing down here starts anything",
    "pyroute2": "netlink ends in platforms/linux",
    "psutil": "processes end in platforms",
    "systemd": "journald ends in log/journal.py",
    "signal": "signals come in on floor 3",
    "logging": "what is worth saying is returned as data; log/entries words it",
    "random": f"chance is no argument: {PURE}",
}
CONFINED = {  # the only rooms that may import it, and why
    "systemd": (
        ("keepaliveD.log.journal", "keepaliveD.log.history"),
        "systemd-python is optional: those who write the journal and who read it find out whether it is there",
    ),
    "pyroute2": (("keepaliveD.platforms.linux",), "it exists on Linux only, and costs 25 MB of memory"),
    "pydantic": (("keepaliveD.config",), "file models stop at the config module; elsewhere values are the model's"),
    "psutil": (("keepaliveD.platforms",), "who holds a socket is a question to the operating system"),
}
HEAVY = {"numpy", "pydantic"}
LOADED_LATE = {
    "pyroute2": "it costs 25 MB of memory, wanted only by those who select by interface",
    "systemd": "it is optional, and loaded only to write to journald",
    "asyncio": "it costs every start, and only measure needs it",
    "hashlib": "it costs 3 MB of memory, OpenSSL's, and model.digest does without",
    "importlib.resources": "it costs every start, and a file beside the code is read without it",
    "pydantic": "it costs 14 MB of memory, wanted only while the configuration is read",
}


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


@functools.cache
def parsed(path: Path) -> ast.Module:
    """What is written there."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache  # each of the tests below asks for all modules
def imports_of(path: Path, name: str) -> tuple[str, ...]:
    """Everything a module imports, wherever in it the import stands.

    `from a import b` counts as a.b; importlib.import_module("a") counts too.
    """
    return tuple(_imports_of(path, name))


def _imports_of(path: Path, name: str) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                base = module or ""
                if level:
                    above = package.split(".")[: len(package.split(".")) - level + 1]
                    base = ".".join([*above, *([module] if module else [])])
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(ast.Attribute(attr="import_module"), [ast.Constant(value=str(module)), *_]):
                yield module


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def floor(name: str) -> int:
    """The floor of a module, or of something inside one: that of its innermost room."""
    rooms = [room for room in FLOORS if within(name, room) and room != "keepaliveD"]
    return FLOORS[max(rooms, key=len)] if rooms else FLOORS["keepaliveD"]


MODULES = modules()


def module_of(name: str) -> str:
    """The module with this name, or the one in which it is defined."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules of which each imports the one before it, and the first is also the last; none where there is no circle.

    Each module is given with those that it imports.
    """
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_module_has_a_floor() -> None:
    """A new room must say where it stands, or no rule holds for it."""
    homeless = [
        name
        for name in MODULES
        if name != "keepaliveD" and not any(within(name, room) for room in FLOORS if room != "keepaliveD")
    ]
    assert homeless == [], f"{homeless}: give each a floor in FLOORS"


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_what_stands_on_its_floor_or_below(name: str) -> None:
    """Facts go downhill, with no way back up."""
    upwards = [
        imported
        for imported in imports_of(MODULES[name], name)
        if within(imported, "keepaliveD") and floor(imported) > floor(name)
    ]
    assert upwards == [], f"{name} stands on floor {floor(name)} and imports from above: {', '.join(upwards)}"


def test_no_module_imports_one_that_imports_it() -> None:
    """Of two that import each other neither is read alone, or tested alone; what both need goes below both."""
    imports = {
        name: {module_of(imported) for imported in imports_of(path, name) if within(imported, "keepaliveD")} - {name}
        for name, path in MODULES.items()
    }
    assert circle(imports) == []


def test_a_circle_of_imports_is_found_through_a_module_between() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) in (list("acba"), list("bacb"), list("cbac"))
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("name", [name for name in MODULES if floor(name) <= 1])
def test_policy_touches_nothing(name: str) -> None:
    """What decides about a host of 100,000 sockets is tested with numbers, not with a host."""
    for imported in imports_of(MODULES[name], name):
        for banned, reason in BANNED_BELOW_THE_PLATFORMS.items():
            assert not within(imported, banned), f"{name} imports {imported}, but {reason}"


def test_a_library_stays_in_its_room() -> None:
    """Each of them is replaceable as long as one room knows it."""
    for name, path in MODULES.items():
        for imported in imports_of(path, name):
            for library, (rooms, reason) in CONFINED.items():
                at_home = any(within(name, room) for room in rooms)
                assert at_home or not within(imported, library), f"{name} imports {imported}, but {reason}"


def test_the_choice_by_operating_system_is_made_once() -> None:
    """A second `if linux` somewhere else would be one that nobody finds when a system is added."""
    asking = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr in ("platform", "name", "uname")
        if ast.unparse(node) in ("sys.platform", "os.name", "os.uname")
    }
    assert asking == {"keepaliveD.platforms"}


def loaded_by(module: str, then: str = "") -> set[str]:
    """Everything that a fresh interpreter loads to import it, and to do what is said then."""
    script = f"import sys, {module}\n{then}\nprint(*sys.modules, file=sys.stderr)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(answer.stderr.splitlines()[-1].split())


def test_the_daemons_entry_point_starts_no_thread() -> None:
    """Until the signals are caught, any of them ends the process, and NumPy takes a while to import."""
    assert not loaded_by("keepaliveD.__main__") & {"numpy", "concurrent.futures.thread", "keepaliveD.cli.daemon"}


@pytest.mark.parametrize("program", ["keepaliveD.cli.ctl", "keepaliveD.cli.living"])
def test_what_is_heavy_or_optional_is_not_loaded_by_a_program_that_only_starts(program: str) -> None:
    """`keepalivectl check` answers at once, and on systems without systemd."""
    loaded = loaded_by(program)
    for module, reason in LOADED_LATE.items():
        assert module not in loaded, f"importing {program} loads {module}, but {reason}"


START_NOTHING = {
    "ctl": ["--help", "--version", "status --help", "sokcets", "monitor --x", "metrics --help", ""],
    "daemon": ["--help", "--version", "--onec", "--log-format x", "--platform x", "--state-dir=", "x"],
}
EACH = """
import os, sys
import {module}
for line in {lines}:
    if not os.fork():
        try:
            {module}.main(line.split())
        except SystemExit:
            print("LOADED", line, *sys.modules, sep="\\t", file=sys.stderr, flush=True)
        os._exit(0)
    os.wait()
"""


@functools.cache
def loaded_by_lines(program: str) -> dict[str, set[str]]:
    """By command line that ends the program: everything that it has loaded then, in a fork of a fresh interpreter."""
    script = EACH.format(module=f"keepaliveD.cli.{program}", lines=START_NOTHING[program])
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    told = (line.split("\t") for line in answer.stderr.splitlines() if line.startswith("LOADED\t"))
    return {line: set(loaded) for _, line, *loaded in told}


@pytest.mark.parametrize(
    ("program", "line"), [(program, line) for program, lines in START_NOTHING.items() for line in lines]
)
def test_a_command_line_that_starts_nothing_loads_nothing_heavy(program: str, line: str) -> None:
    """A third of a second for a typing error is felt."""
    assert not loaded_by_lines(program)[line] & {*HEAVY, "keepaliveD.cli.living"}


def test_why_beside_a_daemon_loads_nothing_that_it_does_not_need() -> None:
    """A person waits for it: OpenSSL for an entry's name, and what reads the catalogue, are 10 ms."""
    loaded = loaded_by("keepaliveD.cli.why.why")
    assert not loaded & {*HEAVY, "hashlib", "importlib.resources", "tempfile"}


def test_the_daemon_loads_nothing_that_only_commands_need() -> None:
    """It keeps what it has loaded, and its worker does so too."""
    loaded = loaded_by("keepaliveD.cli.living, keepaliveD.platforms.linux")
    rooms = ("keepaliveD.cli.printing", "keepaliveD.cli.asking", "keepaliveD.config.rules")
    unneeded = {"shutil", "unicodedata", "difflib"}
    assert not {name for name in loaded if name in unneeded or any(within(name, room) for room in rooms)}


def test_what_checks_the_configuration_does_not_stay_in_the_daemons_memory() -> None:
    """It is loaded by the process that reads the files."""
    then = "assert keepaliveD.daemon.process.Process(None, None, print).load_first().paths"
    assert "pydantic" not in loaded_by("keepaliveD.daemon.process", then)


def test_a_command_that_looks_at_sockets_loads_nothing_that_it_does_not_need() -> None:
    """It starts anew each time that a person asks."""
    loaded = loaded_by("keepaliveD.cli.why.own_scan, keepaliveD.platforms.linux")
    assert not {name for name in loaded if within(name, "psutil") or within(name, "keepaliveD.platforms.linux.deaths")}
