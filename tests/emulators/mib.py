"""sysctl(8) of FreeBSD and macOS, as far as a watcher asks it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from tests.emulators.wire import leave, read


def main(file: Path, arguments: list[str]) -> NoReturn:
    """`sysctl -n NAME`."""
    wire = read(file)
    name = arguments[-1]
    values = {"kern.hz": wire.hz, "net.inet.tcp.always_keepalive": wire.always_keepalive}
    if name not in values:
        print(f"sysctl: unknown oid '{name}'", file=sys.stderr)
        leave(b"", 1)
    leave(f"{values[name]}\n".encode())
