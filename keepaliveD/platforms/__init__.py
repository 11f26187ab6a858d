"""What an operating system offers; detect() is the only choice by operating system in the tree."""

from __future__ import annotations

import sys

from keepaliveD.errors import Unsupported
from keepaliveD.platforms.base import Platform


def detect() -> Platform:
    """The platform this process runs on."""
    if sys.platform == "linux":
        from keepaliveD.platforms.linux import linux

        return linux()
    raise Unsupported(f"{sys.platform}: this version knows Linux only")
