"""A daemon of which /proc and the control socket tell, below a root of the test's own."""

from __future__ import annotations

import os
from pathlib import Path


def in_locks(file: Path) -> str:
    """The file as /proc/locks names it."""
    status = file.stat()
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def has_locked(root: Path, pid: int, file: Path, about: str = "lock:\t1: FLOCK  ADVISORY  WRITE") -> None:
    """Have a process below this root hold the file open, and its descriptor be described so."""
    process = root / f"proc/{pid}"
    for name in ("fd", "fdinfo"):
        (process / name).mkdir(parents=True)
    (process / "fd/7").symlink_to(file)
    (process / "fdinfo/7").write_text(about)


def called(root: Path, *words: str, environment: str | None = "") -> None:
    """Have the daemon be called with these words; its environment cannot be read where it is None."""
    process = root / f"proc/{os.getpid()}"
    (process / "cmdline").write_bytes(b"".join(f"{word}\0".encode() for word in ["tcp-keepalived", *words]))
    if environment is not None:
        (process / "environ").write_text(environment)
