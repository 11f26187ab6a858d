"""The entry points of both programs: what they cannot do without is missed in one line.

The daemon catches signals before everything else is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from keepaliveD import signals
from keepaliveD.errors import Exit


def main() -> int:
    """Run tcp-keepalived."""
    signals.catch()
    return _program("tcp-keepalived", "keepaliveD.cli.daemon")()


def ctl() -> int:
    """Run keepalivectl."""
    return _program("keepalivectl", "keepaliveD.cli.ctl")()


def _program(name: str, module: str) -> Callable[[], int]:
    """Return the program's main function; exit where a package that it needs cannot be imported."""
    try:
        run: Callable[[], int] = importlib.import_module(module).main
    except ImportError as error:
        package = (error.name or "").partition(".")[0] or "?"
        print(f"{name}: the Python package {package} is missing or broken; install it ({error})", file=sys.stderr)
        sys.exit(Exit.UNAVAILABLE)
    return run


if __name__ == "__main__":
    sys.exit(main())
