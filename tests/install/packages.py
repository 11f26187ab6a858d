"""Packages built by script/package, and the systems to install them in."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SUITES = ("bookworm", "trixie")
BASE = ("systemd", "systemd-sysv", "libnss-systemd", "dbus", "iproute2", "procps", "man-db", "keepalived")
NETWORKS = ("cloud-init", "ifupdown", "network-manager", "udev")  # systemd-networkd comes with systemd
CONFIGURATION = "/etc/tcp-keepalived/config.toml"


@dataclass(frozen=True)
class Package:
    """A .deb."""

    file: Path

    def field(self, name: str) -> str:
        """A field of its control file."""
        return _output("dpkg-deb", "--field", str(self.file), name)

    @property
    def content(self) -> list[str]:
        """The paths of its files and directories."""
        return [
            line.split()[5].removeprefix(".") for line in _output("dpkg-deb", "--contents", str(self.file)).splitlines()
        ]

    @property
    def depends(self) -> list[str]:
        """The names of what it asks for."""
        return [re.split(r"[ :(|]", name.strip())[0] for name in self.field("Depends").split(",")]


def build(suite: str, directory: Path) -> Package:
    """The package for this suite, from this working copy, in a directory that is made."""
    _output(str(PROJECT / "script/package"), "--output", str(directory), suite)
    package = built(directory)
    assert package
    return package


def built(directory: Path) -> Package | None:
    """The package that was built in this directory, if one was."""
    return next(map(Package, directory.glob("*.deb")), None)


def previous(package: Package, directory: Path) -> Package:
    """The same package as it might have been in an earlier version: with another configuration file."""
    tree, file = directory / "tree", directory / "previous.deb"
    _output("dpkg-deb", "--raw-extract", str(package.file), str(tree))
    control = tree / "DEBIAN/control"
    text = control.read_text(encoding="utf-8")
    control.write_text(re.sub(r"(?m)^Version: .*", "Version: 0.0.1", text), encoding="utf-8")
    with open(f"{tree}{CONFIGURATION}", "a", encoding="utf-8") as configuration:
        configuration.write("# as it was shipped before\n")
    _output("dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", str(tree), str(file))
    shutil.rmtree(tree)
    return dataclasses.replace(package, file=file)


def root(suite: str, package: Package) -> Path:
    """A system of this suite that has what the package asks for, and no other Python package."""
    return Path(_output(str(PROJECT / "packaging/root"), suite, *BASE, *package.depends))


def root_with_networks(suite: str, package: Package) -> Path:
    """Make a system of this suite that has every program that brings up networks."""
    return Path(_output(str(PROJECT / "packaging/root"), suite, *BASE, *NETWORKS, *package.depends))


def _output(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout.strip()
