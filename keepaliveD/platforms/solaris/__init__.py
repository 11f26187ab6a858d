"""Solaris 10, Solaris 11 and illumos."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.listing.platform import platform
from keepaliveD.platforms.solaris import listing, settings


def solaris(name: str, root: Path) -> Platform:
    """Return it, with its paths below `root`; Solaris 10 has no ipadm."""
    tuner = settings.Solaris(root, with_ipadm=name != "solaris10")
    found = platform(name, tuner, listing.sunos(root))
    return dataclasses.replace(found, unreached=lambda: listing.listeners(root))
