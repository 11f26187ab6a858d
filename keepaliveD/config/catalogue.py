"""The catalogue of what firewalls do, as data beside the code."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib


@functools.cache
def catalogue() -> dict[str, float]:
    """Timeouts in seconds of products, by the name of their preset."""
    text = importlib.resources.files("keepaliveD.config").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return {name: float(entry["timeout"]) for name, entry in tomllib.loads(text).items()}
