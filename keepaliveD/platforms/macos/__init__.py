"""macOS."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.listing.platform import platform
from keepaliveD.platforms.macos import listing, settings


def macos(name: str, root: Path) -> Platform:
    """Return it, with its paths below `root`."""
    return platform(name, settings.MacOS(root), listing.MacOS(root))
