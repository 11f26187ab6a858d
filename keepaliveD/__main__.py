"""The entry points of both programs: what they cannot do without is missed in one line.

Everything else is imported under that guard. The daemon catches signals first of all.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's own would be loaded before anything is guarded
if TYPE_CHECKING:
    from typing import NoReturn

INTERRUPTED = 128 + 2  # as a shell reports SIGINT
SHORTAGES = (  # what the dynamic loader says where memory or descriptors are short; it gives no number
    "failed to map segment",
    "cannot map zero-fill pages",
    "annot allocate memory",
    "Too many open files",
)


def main() -> int:
    """Run tcp-keepalived."""
    return _run("tcp-keepalived", "daemon", catching=True)


def ctl() -> NoReturn:
    """Run keepalivectl, and end at once: to take down all that was loaded takes longer than many a command."""
    status = _run("keepalivectl", "ctl", catching=False)
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105  # an import may fail here, unguarded
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed or unread: the command has reported it
            pass
    os._exit(status)


def _run(name: str, module: str, *, catching: bool) -> int:
    """Import the program and run it; the exit status says what is missing where that fails (sysexits.h)."""
    try:
        import importlib

        from keepaliveD.daemon import signals

        os.environ.update(OPENBLAS_NUM_THREADS="1")  # NumPy's; each thread would take memory, for nothing here
        os.environ.update(PYDANTIC_DISABLE_PLUGINS="__all__")  # of other packages; to look for them takes time
        if catching:
            signals.catch()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # of the system: no memory, no descriptors, a file that cannot be read
        return _complain(name, error)
    try:
        status = int(importlib.import_module(f"keepaliveD.cli.{module}").main())
    except SystemExit:
        raise
    except KeyboardInterrupt:  # while it was being loaded
        status = INTERRUPTED
    except BaseException as error:  # the same; a panic of pydantic's Rust is no Exception
        status = _complain(name, error)
    signals.release()
    return status


def _complain(name: str, error: BaseException) -> int:
    """Say why it cannot be loaded, and return the status."""
    cause: BaseException = error
    while cause.__cause__:  # packages put a page of advice above it
        cause = cause.__cause__
    is_short = any(words in str(cause) for words in SHORTAGES)
    if isinstance(cause, ImportError) and not is_short:
        package = (cause.name or "?").partition(".")[0]
        status, line = 69, f"{name}: the Python package {package} is missing or broken; install it ({cause})"
    else:
        remedy = "; allow it more memory and open files" if is_short or isinstance(cause, MemoryError) else ""
        status, line = 71, f"{name}: cannot be loaded: {type(cause).__name__}: {cause}".removesuffix(": ") + remedy
    print(" ".join(line.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
