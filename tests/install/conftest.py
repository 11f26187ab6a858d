"""What tests of the installed package need: a package, a machine, and nothing left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.machine import UNIT, Machine
from tests.install.packages import SUITES, Package, build, previous, root

TOOLS = ("dpkg-deb", "mmdebstrap", "nsenter", "setpriv", "unshare", "zstd")


def missing() -> str:
    """What there is no machine without, or nothing."""
    if os.geteuid():
        return "machines are made of namespaces: run these tests as root"
    tools = [tool for tool in TOOLS if not shutil.which(tool)]
    return f"machines need {', '.join(tools)}: script/setup test installs them" if tools else ""


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Each Debian in turn."""
    if reason := missing():
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="session")
def package(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """This version's."""
    return build(suite, tmp_path_factory.mktemp(suite))


@pytest.fixture(scope="session")
def previous_package(package: Package, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """One that is upgraded from."""
    return previous(package, tmp_path_factory.mktemp(f"{suite}-previous"))


@pytest.fixture(scope="session")
def tarball(suite: str, package: Package) -> Path:
    """A system that lacks only the package."""
    return root(suite, package)


@pytest.fixture(scope="module")
def machine(suite: str, tarball: Path) -> Iterator[Machine]:
    """A machine without the package."""
    with Machine(suite, tarball) as machine:
        yield machine


def install(machine: Machine, package: Package, *options: str) -> str:
    """Install as an administrator would, without a network; return what was printed for him."""
    machine.run("systemctl", "reset-failed", UNIT, check=False)  # tests start it more often than systemd allows
    shutil.copy(package.file, machine.path("/root/package.deb"))
    command = ("apt-get", "-qq", "-y", "-o", "APT::Sandbox::User=root", *options, "install", "/root/package.deb")
    done = machine.run(*command)
    return done.stdout + done.stderr
