"""What an operating system offers; detect() is the only choice by operating system in the tree."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keepaliveD.model.errors import Unsupported
from keepaliveD.platforms.base import Platform, WatcherFactory

if TYPE_CHECKING:
    from keepaliveD.platforms.commands.settings import Settings

NAMES = (
    "linux",
    "freebsd",
    "dragonfly",
    "macos",
    "openbsd",
    "netbsd",
    "solaris10",
    "solaris11",
    "illumos",
    "hpux",
    "aix",
)
SUNOS = ("solaris10", "solaris11", "illumos")
PYTHON_CALLS_IT = {"darwin": "macos", "hp-ux": "hpux"}  # sys.platform, without the version


def detect(name: str | None = None, root: Path = Path("/")) -> Platform:
    """The platform called `name`, or the one this process runs on; its paths hang from `root`.

    Raises Unsupported.
    """
    name = name or _running()
    if name not in NAMES:
        raise Unsupported(f"{name}: not known here; known are {', '.join(NAMES)}")
    if name == "linux":
        from keepaliveD.platforms.linux import linux

        return linux(root)
    from keepaliveD.platforms.unsupported import NoArmer, NoAtConnect, NoOwners

    tuner = _tuner(name, root)
    watcher, limits = _watcher(name, root)
    platform = Platform(name, tuner, NoOwners(), NoArmer(), NoAtConnect(), watcher, (*tuner.notes, *limits))
    if name not in SUNOS:
        return platform
    from keepaliveD.platforms.solaris.listing import listeners

    return dataclasses.replace(platform, unreached=lambda: listeners(root))


def _watcher(name: str, root: Path) -> tuple[WatcherFactory, tuple[str, ...]]:
    """The watcher, and what it cannot tell; settings are kept also where nothing can be watched."""
    from keepaliveD.platforms.listing import listing, watching
    from keepaliveD.platforms.unsupported import watch_nothing

    try:
        found = listing(name, root)
    except Unsupported as refusal:
        return watch_nothing, (str(refusal).removeprefix(f"{name}: "),)
    return watching(found), found.limits


def _tuner(name: str, root: Path) -> Settings:
    tuner: Settings
    match name:
        case "freebsd" | "dragonfly":
            from keepaliveD.platforms.freebsd.settings import FreeBSD

            tuner = FreeBSD(root)
        case "macos":
            from keepaliveD.platforms.macos.settings import MacOS

            tuner = MacOS(root)
        case "openbsd":
            from keepaliveD.platforms.openbsd.settings import OpenBSD

            tuner = OpenBSD(root)
        case "netbsd":
            from keepaliveD.platforms.netbsd.settings import NetBSD

            tuner = NetBSD(root)
        case "hpux":
            from keepaliveD.platforms.hpux.settings import HPUX

            tuner = HPUX(root)
        case "aix":
            from keepaliveD.platforms.aix.settings import AIX

            tuner = AIX(root)
        case _:
            from keepaliveD.platforms.solaris.settings import Solaris

            tuner = Solaris(root, with_ipadm=name != "solaris10")
    return tuner


def _running() -> str:
    """The name of this system: sys.platform is such as freebsd14, sunos5, hp-ux11."""
    system = sys.platform.rstrip("0123456789.")
    if system == "sunos":
        return _sunos(os.uname().release, os.uname().version)
    name = PYTHON_CALLS_IT.get(system, system)
    return name if name in NAMES else sys.platform


def _sunos(release: str, version: str) -> str:
    """Solaris 10 is 5.10; of those that are 5.11 Oracle's says such as 11.4.0.15.0, the others such as illumos-1b2c."""
    if release == "5.10":
        return "solaris10"
    return "solaris11" if version.startswith("11.") else "illumos"
