"""How often to scan for a path's idle timeout, as configuration."""

from __future__ import annotations

import math

from keepaliveD.model.duration import exact


def scan_interval(timeout: float, interval: float) -> str:
    """Return the line with which `keepalivectl check` does not warn of this idle timeout; "" where it does not now.

    `interval` is the seconds between two scans at most.
    """
    most = timeout / 2
    if interval <= most:
        return ""
    figure = exact(math.floor(most)) if most >= 1 else f"{math.floor(1000 * most)}ms"
    return f'interval = "{figure}"  # at most half of the idle timeout'
