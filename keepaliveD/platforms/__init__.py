"""What an operating system offers; detect() is the only choice by operating system in the tree."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keepaliveD.model.errors import Unsupported

if TYPE_CHECKING:
    from keepaliveD.platforms.base import Platform

PLATFORMS = {  # the room of each system, and what in it makes the platform
    "linux": ("linux", "linux"),
    "freebsd": ("freebsd", "freebsd"),
    "dragonfly": ("freebsd", "dragonfly"),
    "macos": ("macos", "macos"),
    "openbsd": ("openbsd", "openbsd"),
    "netbsd": ("netbsd", "netbsd"),
    "solaris10": ("solaris", "solaris"),
    "solaris11": ("solaris", "solaris"),
    "illumos": ("solaris", "solaris"),
    "hpux": ("hpux", "hpux"),
    "aix": ("aix", "aix"),
}
NAMES = tuple(PLATFORMS)
PYTHON_CALLS_IT = {"darwin": "macos", "hp-ux": "hpux"}  # sys.platform, without the version


def detect(name: str | None = None, root: Path = Path("/")) -> Platform:
    """Return the platform called `name`, or the one this process runs on; its paths hang from `root`.

    Raises Unsupported.
    """
    name = name or _running()
    if name not in PLATFORMS:
        raise Unsupported(f"{name}: system not supported; supported are {', '.join(NAMES)}")
    room, make = PLATFORMS[name]
    platform: Platform = getattr(importlib.import_module(f"keepaliveD.platforms.{room}"), make)(name, root)
    return platform


def _running() -> str:
    """Return the name of this system: sys.platform is freebsd14, sunos5 or hp-ux11, for example."""
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
