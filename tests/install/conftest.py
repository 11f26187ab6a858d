"""What tests of the installed package need: a package, a machine, and nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.machine import UNIT, Machine
from tests.install.packages import SUITES, Package, build, built, previous, root, root_with_networks

TOOLS = ("dpkg-deb", "mmdebstrap", "nsenter", "setpriv", "unshare", "zstd")


def missing() -> str:
    """What there is no machine without, or nothing."""
    if os.geteuid():
        return "machines are made of namespaces: run these tests as root"
    tools = [tool for tool in TOOLS if not shutil.which(tool)]
    return f"machines need {', '.join(tools)}: script/setup test installs them" if tools else ""


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """No other worker is in this block."""
    with file.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Each Debian in turn."""
    if reason := missing():
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of all workers that share the tests."""
    directory = tmp_path_factory.getbasetemp()
    return directory.parent if "PYTEST_XDIST_WORKER" in os.environ else directory


@pytest.fixture(scope="session")
def package(suite: str, shared: Path) -> Package:
    """This version's; the first worker builds it."""
    with locked(shared / f"{suite}.lock"):
        directory = shared / suite
        return built(directory) or build(suite, directory)


@pytest.fixture(scope="session")
def previous_package(package: Package, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """One that is upgraded from."""
    return previous(package, tmp_path_factory.mktemp(f"{suite}-previous"))


@pytest.fixture(scope="session")
def system(suite: str, package: Package) -> Path:
    """A system that lacks only the package."""
    return root(suite, package)


@pytest.fixture(scope="session")
def networks(suite: str, package: Package) -> Path:
    """A system that has every program that brings up networks, too."""
    return root_with_networks(suite, package)


@pytest.fixture(scope="module")
def machine(suite: str, system: Path) -> Iterator[Machine]:
    """A machine without the package."""
    with Machine(suite, system) as machine:
        yield machine


def install(machine: Machine, package: Package, *options: str) -> str:
    """Install as an administrator would, without a network; return what was printed for him."""
    machine.run("systemctl", "reset-failed", UNIT, check=False)  # tests start it more often than systemd allows
    shutil.copy(package.file, machine.path("/root/package.deb"))
    command = ("apt-get", "-qq", "-y", "-o", "APT::Sandbox::User=root", *options, "install", "/root/package.deb")
    done = machine.run(*command)
    return done.stdout + done.stderr
