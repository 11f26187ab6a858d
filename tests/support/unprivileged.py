"""What a process without privilege may do, tried out by one that has it."""

from __future__ import annotations

import codecs
import functools
import importlib
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keepaliveD

NOBODY = 65534


@contextmanager
def as_nobody(user: int = NOBODY) -> Iterator[None]:
    """Without root's right to pass every permission; nothing changes for who has none."""
    if os.geteuid() != 0:
        yield
        return
    _import_all()
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


@functools.cache
def _import_all() -> None:
    """Import what nobody may not import, where this clone, or Python, is in a directory of root's."""
    for module in pkgutil.walk_packages(keepaliveD.__path__, "keepaliveD."):
        importlib.import_module(module.name)
    codecs.lookup("idna")


@contextmanager
def as_a_stranger() -> Iterator[None]:
    """As a user who is in no group."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    try:
        with as_nobody():
            yield
    finally:
        os.setegid(0)
        os.setgroups(groups)


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A directory that anybody can reach and read, and what is made in it: pytest's tmp_path is its owner's alone."""
    directory = Path(tempfile.mkdtemp(prefix="keepaliveD-"))
    directory.chmod(0o755)
    before = os.umask(0o022)
    try:
        yield directory
    finally:
        os.umask(before)
        for path in (directory, *directory.rglob("*")):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(directory)
