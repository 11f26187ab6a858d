"""What an operating system offers; detect() is the only choice by operating system in the tree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keepaliveD.errors import Unsupported
from keepaliveD.platforms.base import Platform

if TYPE_CHECKING:
    from keepaliveD.platforms.settings import Settings

NAMES = ("linux", "freebsd", "dragonfly")


def detect(name: str | None = None, root: Path = Path("/")) -> Platform:
    """The platform called `name`, or the one this process runs on; its paths hang from `root`.

    Raises Unsupported.
    """
    name = name or _running()
    match name:
        case "linux":
            from keepaliveD.platforms.linux import linux

            return linux(root)
        case "freebsd" | "dragonfly":
            from keepaliveD.platforms.freebsd import FreeBSD

            return _with_commands(name, FreeBSD(root))
    raise Unsupported(f"{name}: not known here; known are {', '.join(NAMES)}")


def _with_commands(name: str, tuner: Settings) -> Platform:
    from keepaliveD.platforms.nothing import NoOwners, watch_nothing

    return Platform(name, tuner, NoOwners(), watch_nothing, tuner.notes)


def _running() -> str:
    return sys.platform.rstrip("0123456789.")
