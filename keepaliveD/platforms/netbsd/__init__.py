"""NetBSD."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.listing.by_psutil import KnownToPsutil
from keepaliveD.platforms.listing.platform import platform
from keepaliveD.platforms.netbsd.settings import NetBSD


def netbsd(name: str, root: Path) -> Platform:
    """Return it, with its paths below `root`."""
    return platform(name, NetBSD(root), KnownToPsutil())
