"""What kernel tests need, and what they must leave behind: nothing."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator

import psutil
import pytest

from tests.support.patience import wait_for
from tests.support.rig import Rig
from tests.support.versions import RUNNING

TOOLS = ("ip", "nft", "nsenter", "setpriv", "ss", "strace", "unshare")


def missing() -> str:
    """What there is no kernel test without, or nothing."""
    if os.geteuid():
        return "kernel tests make network namespaces: run them as root"
    tools = [tool for tool in TOOLS if not shutil.which(tool)]
    return f"kernel tests need {', '.join(tools)}: install iproute2, nftables, strace, util-linux" if tools else ""


def running(process: psutil.Process) -> bool:
    """A zombie does not: in a container without an init, pytest inherits those of others."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ancestors(process: psutil.Process) -> set[psutil.Process]:
    """Return its parents, as far as they are still known."""
    try:
        return set(process.parents())
    except psutil.NoSuchProcess:
        return set()


def pytest_configure(config: pytest.Config) -> None:
    """Name our mark."""
    config.addinivalue_line("markers", "linux(version): left out on an older kernel; see versions.since")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of what this kernel is too old for."""
    left_out = [item for item in items if any(mark.args[0] > RUNNING for mark in item.iter_markers("linux"))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """One network for all tests of a module, whose firewall forgets after as many seconds as its TIMEOUT says."""
    if reason := missing():
        pytest.skip(reason)
    with Rig(timeout=request.module.TIMEOUT) as rig:
        yield rig


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Skip where the test cannot run; afterwards no process or thread of it may stay."""
    if reason := missing():
        pytest.skip(reason)
    threads, children = set(threading.enumerate()), set(psutil.Process().children(recursive=True))
    yield
    left = set(psutil.Process().children(recursive=True)) - children  # the others are those of the whole module ...
    its_own = [child for child in left if not children & ancestors(child)]  # ... and their own
    wait_for(lambda: not any(map(running, its_own)))
    assert not [child for child in its_own if running(child)]
    assert set(threading.enumerate()) <= threads
