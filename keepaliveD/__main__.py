"""The entry points of both programs: what they cannot do without is missed in one line.

Everything else is imported under that guard. The daemon catches signals first of all.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run tcp-keepalived."""
    return _run("tcp-keepalived", "daemon", catching=True)


def ctl() -> int:
    """Run keepalivectl."""
    return _run("keepalivectl", "ctl", catching=False)


def _run(name: str, module: str, *, catching: bool) -> int:
    """Import the program and run it; the exit status says what is missing where that fails (sysexits.h)."""
    try:
        import importlib

        from keepaliveD.daemon import signals

        if catching:
            signals.catch()
    except Exception as error:  # of the system: no memory, no descriptors, a file that cannot be read
        return _complain(name, error)
    try:
        program = importlib.import_module(f"keepaliveD.cli.{module}")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the same; a panic of pydantic's Rust is no Exception
        status = _complain(name, error)
    else:
        status = int(program.main())
    signals.release()
    return status


def _complain(name: str, error: BaseException) -> int:
    """Say why it cannot be loaded, and return the status."""
    if isinstance(error, ImportError):
        package = (error.name or "?").partition(".")[0]
        status, line = 69, f"{name}: the Python package {package} is missing or broken; install it ({error})"
    else:
        status, line = 71, f"{name}: cannot be loaded: {type(error).__name__}: {error}"
    print(" ".join(line.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
