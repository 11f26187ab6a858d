"""HP-UX."""

from __future__ import annotations

from pathlib import Path

from keepaliveD.platforms.base import Platform
from keepaliveD.platforms.hpux.settings import HPUX
from keepaliveD.platforms.listing.platform import unwatched


def hpux(name: str, root: Path) -> Platform:
    """Return it, with its paths below `root`."""
    return unwatched(name, HPUX(root))
