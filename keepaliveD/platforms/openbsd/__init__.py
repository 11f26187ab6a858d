"""OpenBSD."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.listing.by_psutil import KnownToPsutil
from keepaliveD.platforms.listing.platform import platform
from keepaliveD.platforms.openbsd.settings import OpenBSD


def openbsd(name: str, root: Path) -> Platform:
    """Return it, with its paths below `root`."""
    return platform(name, OpenBSD(root), KnownToPsutil())
