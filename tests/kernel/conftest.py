"""What kernel tests need, and what they must leave behind: nothing."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

import psutil
import pytest

TOOLS = ("ip", "nft", "nsenter", "setpriv", "ss", "unshare")


def missing() -> str:
    """What there is no kernel test without, or nothing."""
    if os.geteuid():
        return "kernel tests make network namespaces: run them as root"
    tools = [tool for tool in TOOLS if not shutil.which(tool)]
    return f"kernel tests need {', '.join(tools)}: install iproute2, nftables, util-linux" if tools else ""


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Skip where the test cannot run; afterwards no process or thread of it may be there."""
    if reason := missing():
        pytest.skip(reason)
    before = set(threading.enumerate())
    yield
    assert not psutil.Process().children(recursive=True)
    assert set(threading.enumerate()) <= before


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
