"""What holds for all tests: where KEEPALIVED_NO_SKIP is set, a skip is a failure; workers share tests by group."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
from xdist.remote import Producer

from tests.support.lanes import WAITS, Lanes

TESTS = Path(__file__).parent
PATIENT = hypothesis.settings(deadline=None)
hypothesis.settings.register_profile("patient", PATIENT)
hypothesis.settings.register_profile("quick", PATIENT, max_examples=20)  # for script/test --quick


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where KEEPALIVED_NO_SKIP is set, a skipped test is a failed one."""
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So is a skipped module."""
    return _no_skip((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _no_skip(report: Report) -> Report:
    if report.skipped and "KEEPALIVED_NO_SKIP" in os.environ and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which KEEPALIVED_NO_SKIP forbids: {report.longreprtext}"
    return report


# ------------------------------------------------------------- what needs a kernel, and who runs what

# whose daemons arm at connect what is not of their own network: those of one would arm what another one watches
ARM_EVERYWHERE = (
    *("kernel/test_connect.py", "kernel/test_why.py", "kernel/deaths/test_daemon.py"),
    "hostile/test_cgroups.py",
)
# whose attackers lock very many sockets, or whose daemons are to hang at none but their own
LOCK_SOCKETS = (
    *("hostile/test_blocking.py", "hostile/test_hiding.py", "hostile/test_numbers.py"),
    *("kernel/test_worker.py", "kernel/test_namespaces.py"),
)
# whose tests wait for firewalls to forget, and leave the processors to others: those first that wait longest
WAITING = (
    *("kernel/measure/test_measure.py", "kernel/test_verdicts.py", "kernel/measure/test_where.py"),
    *("kernel/measure/test_written.py", "kernel/test_rescue.py", "programs/test_silence.py"),
    *("kernel/deaths/test_strange.py", "programs/test_measured.py", "kernel/deaths/test_causes.py"),
    *(
        "simulation/test_model.py",
        "kernel/test_watching.py",
        "kernel/test_own_firewall.py",
        "kernel/test_unanswered.py",
    ),
)
SHARED = ("module", "session")  # scopes of fixtures that several tests use
WITHOUT_KERNEL = "not kernel"  # of the marks that script/test --quick asks for
KERNEL = ("hostile", "install", "kernel", "programs", "torture")  # directories whose tests need root on a real kernel


def pytest_configure(config: pytest.Config) -> None:
    """Name our marks, and let no example fail because the machine is busy."""
    hypothesis.settings.load_profile(config.getoption("--hypothesis-profile") or "patient")
    config.addinivalue_line("markers", "long: alone or with its like; begun with, and left out by script/test --quick")
    config.addinivalue_line("markers", "kernel: on a real or emulated kernel; script/test --quick leaves it out")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect thousands of tests without looking for garbage among them, then or later: they stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a kernel, and keep tests together that share a fixture of their module.

    Workers begin with those that wait longest, then with the long ones.
    """
    for item in items:
        if _needs_kernel(item.path):
            item.add_marker("kernel")
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes | None:
    """Let workers of their own run the tests that wait."""
    return Lanes(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_groups_are_kept(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a pytest-xdist whose workers would tear groups apart: it marks each test's id with its group."""
    if config.getoption("loadgroup", default=False):
        torn = [item.nodeid for item in items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
        if torn:
            raise pytest.UsageError(f"pytest-xdist does not keep groups of tests together, as {torn[0]}'s")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Let script/test --quick not even import what needs a kernel."""
    left_out = WITHOUT_KERNEL in config.getoption("markexpr") and collection_path.is_relative_to(TESTS)
    return True if left_out and _needs_kernel(collection_path) else None


@functools.cache
def _file(path: Path) -> str:
    """How this page names a file."""
    return str(path.relative_to(TESTS))


@functools.cache
def _needs_kernel(path: Path) -> bool:
    """Whether the tests below this path need a kernel: the real one, as root, or one that programs emulate."""
    first, second, *_ = (*path.relative_to(TESTS).parts, "", "")
    return first in KERNEL or (first == "platforms" and second not in ("", "linux", "__init__.py"))


def _turn(item: pytest.Item) -> tuple[int, ...]:
    """What orders tests that have no group, and groups that have equally many; xdist begins with the largest."""
    file = _file(item.path)
    waits = WAITING.index(file) if file in WAITING else len(WAITING)
    return (waits, *(item.get_closest_marker(mark) is None for mark in ("long", "kernel")))


def _group(item: pytest.Item) -> str:
    """The name of the tests that share a fixture of their module (a booted machine, a night) with this one, if any."""
    if not isinstance(item, pytest.Function):
        return ""
    file = _file(item.path)
    scopes = {name: definitions[-1].scope for name, definitions in item._fixtureinfo.name2fixturedefs.items()}
    indices = item.callspec.indices if hasattr(item, "callspec") else {}
    if file in ARM_EVERYWHERE:
        return "arm at connect"
    if file in LOCK_SOCKETS:
        return "locked sockets"
    if "module" in scopes.values():
        words = [file, *(f"{name}-{index}" for name, index in indices.items() if scopes.get(name) in SHARED)]
    elif file in WAITING:  # a group of its own
        words = [file, item.originalname, *(f"{name}-{index}" for name, index in indices.items())]
    else:
        return ""
    return " ".join([WAITS, *words] if file in WAITING else words)
