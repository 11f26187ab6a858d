"""Memory that is free is the system's again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keepaliveD.daemon.memory import give_back

PIECE = 100_000  # octets: the C library asks the system for larger ones apart, and gives these back at once
PIECES = 1000


def resident() -> int:
    """Octets of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_that_was_freed_goes_back_although_memory_behind_it_is_in_use() -> None:
    """As after a scan: most columns are gone, and some stay."""
    pieces = [np.ones(PIECE, np.uint8) for _ in range(PIECES)]
    last = pieces[-1]
    held = resident()
    del pieces
    give_back()
    assert held - resident() > PIECE * PIECES / 2
    assert last.all()
