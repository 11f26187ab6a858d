"""A cgroup with little memory, in which the kernel kills a program that takes more."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.patience import SOON, TICK

LIMIT = 32 << 20  # bytes: room for a shell
V1 = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")  # Documentation/admin-guide/cgroup-v1/memory.rst
V2 = ("memory.max", "memory.swap.max")  # Documentation/admin-guide/cgroup-v2.rst


@contextlib.contextmanager
def little_memory() -> Iterator[str]:
    """Make it, and give the command with which a shell joins it; in the end it is removed."""
    hierarchy, limits = _hierarchy()
    cgroup = hierarchy / f"keepaliveD-test-{os.getpid()}"
    cgroup.mkdir()
    try:
        for name, bytes_at_most in zip(limits, (LIMIT, LIMIT if limits == V1 else 0), strict=True):
            with contextlib.suppress(FileNotFoundError, PermissionError):  # swap is not accounted everywhere
                (cgroup / name).write_text(str(bytes_at_most), encoding="ascii")
        yield f"echo $$ > {cgroup}/cgroup.procs"
    finally:
        _remove(cgroup)


def _hierarchy() -> tuple[Path, tuple[str, str]]:
    """Return where cgroups that limit memory can be made, and the names of their limits."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for _, where, kind, options, *_ in mounts:
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(where), V1
    for _, where, kind, *_ in mounts:
        if kind == "cgroup2" and "memory" in (Path(where) / "cgroup.controllers").read_text("ascii").split():
            (Path(where) / "cgroup.subtree_control").write_text("+memory", encoding="ascii")  # as systemd does
            return Path(where), V2
    raise AssertionError("no cgroup here can limit memory")


def _remove(cgroup: Path) -> None:
    """Remove it as soon as the kernel has finished with what was in it."""
    deadline = time.monotonic() + SOON
    while True:
        try:
            return cgroup.rmdir()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(TICK)
