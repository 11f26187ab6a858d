"""The descriptors of this process, to see whether any is left open."""

from __future__ import annotations

import gc
import os


def open_descriptors() -> set[str]:
    """Return their numbers, without those that only garbage of earlier tests holds; threads of these may close more."""
    gc.collect()
    return set(os.listdir("/proc/self/fd"))
