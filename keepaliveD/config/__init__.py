"""The configuration: files in /etc are read, merged, and checked into model types.

Every error says the file, the line, the key, what is wrong and what would be right.
"""

from __future__ import annotations

from pathlib import Path as File

from keepaliveD.config.configuration import Config

__all__ = ["Config", "defaults", "load"]


def load(file: File | None = None) -> Config:
    """Read `file` (without one: DEFAULT_FILE, if it is there) and the config.d beside it.

    Raises ConfigError with a line for every wrong key, NoInput where a file cannot be read.
    """
    from keepaliveD.config import checked  # with pydantic: 14 MB of memory, and a third of a second

    return checked.load(file)


def defaults() -> Config:
    """Return the configuration where nothing is written."""
    from keepaliveD.config import checked

    return checked.defaults()
