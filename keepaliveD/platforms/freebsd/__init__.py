"""FreeBSD, and DragonFly BSD, whose settings have the same names."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.freebsd import listing, settings
from keepaliveD.platforms.listing.platform import platform, unwatched


def freebsd(name: str, root: Path) -> Platform:
    """Return it, with its paths below `root`."""
    return platform(name, settings.FreeBSD(root), listing.FreeBSD(root))


def dragonfly(name: str, root: Path) -> Platform:
    """Return it, with its paths below `root`."""
    return unwatched(name, settings.FreeBSD(root))
