"""The catalogue of what firewalls and load balancers do, as data beside the code."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from keepaliveD.model.connections import WhatCounts

FILE = Path(__file__).with_name("catalogue.toml")  # importlib.resources would load tempfile and random


class Preset(NamedTuple):
    """What a product does as it comes from the factory, and where that was read."""

    product: str
    timeout: float  # seconds
    counts: WhatCounts
    then: str  # what the next packet meets: "drop", "reset", "close" or "unknown"
    source: str


@functools.cache
def catalogue() -> Mapping[str, Preset]:
    """The products by the name of their preset."""
    import tomllib  # with 5 ms: others load this module for the names in it

    text = FILE.read_text(encoding="utf-8")
    return {
        name: Preset(
            entry["product"],
            float(entry["timeout"]),
            WhatCounts(entry.get("counts", WhatCounts.PACKETS.value)),
            entry["then"],
            entry["source"],
        )
        for name, entry in tomllib.loads(text).items()
    }
