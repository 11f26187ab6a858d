"""BPF programs that drop every packet of one cgroup or one network device, as other tools of a host do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from tests.support.rig import LIBC

BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[platform.machine()]  # number of the system call bpf(2)
LOAD, LINK = 5, 28  # include/uapi/linux/bpf.h: BPF_PROG_LOAD, BPF_LINK_CREATE
OF_CGROUPS, OF_DEVICES, EARLY = 8, 3, 6  # BPF_PROG_TYPE_CGROUP_SKB, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP
REFUSE, DROP, DROP_EARLY = 0, 2, 1  # what they return: of a cgroup, not to pass; TCX_DROP; XDP_DROP
FOR_ANY_DRIVER = 2  # XDP_FLAGS_SKB_MODE


class Where(IntEnum):
    """At which packets a program looks: enum bpf_attach_type."""

    ARRIVING_IN_CGROUP = 0
    LEAVING_CGROUP = 1
    ARRIVING_BEFORE_ALL_ELSE = 37  # XDP
    ARRIVING_ON_DEVICE = 46
    LEAVING_ON_DEVICE = 47


@contextlib.contextmanager
def own_cgroup(suffix: str = "") -> Iterator[Path]:
    """Make an empty cgroup of version 2, whose name ends so; in the end it is removed."""
    (root,) = (
        Path(where)
        for _, where, kind, *_ in map(str.split, Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines())
        if kind == "cgroup2"
    )
    cgroup = root / f"keepaliveD-test-{os.getpid()}-{os.urandom(4).hex()}{suffix}"
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        cgroup.rmdir()


@contextlib.contextmanager
def dropping_in(cgroup: Path, where: Where) -> Iterator[None]:
    """Drop all packets of the sockets of this cgroup."""
    descriptor = os.open(cgroup, os.O_RDONLY)
    try:
        with _attached(_load(OF_CGROUPS, where, REFUSE), descriptor, where):
            yield
    finally:
        os.close(descriptor)


def dropping_on(index: int, where: Where) -> contextlib.AbstractContextManager[None]:
    """Drop all packets of the network device that has this index in the namespace of this thread."""
    if where is Where.ARRIVING_BEFORE_ALL_ELSE:
        return _attached(_load(EARLY, where, DROP_EARLY), index, where, FOR_ANY_DRIVER)
    return _attached(_load(OF_DEVICES, where, DROP), index, where)


@contextlib.contextmanager
def _attached(program: int, target: int, where: Where, flags: int = 0) -> Iterator[None]:
    try:
        link = _bpf(LINK, struct.pack("IIII", program, target, where, flags).ljust(64, b"\0"))
    finally:
        os.close(program)
    try:
        yield
    finally:
        os.close(link)


def _load(kind: int, where: Where, result: int) -> int:
    """Load a program that returns this for each packet; return its descriptor."""
    code = struct.pack("<BBhi", 0xB7, 0, 0, result) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = result; exit
    instructions, license_ = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    fields = struct.pack("IIQQ", kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(license_))
    return _bpf(LOAD, (fields + struct.pack("IIQII16sII", 0, 0, 0, 0, 0, b"", 0, where)).ljust(128, b"\0"))


def _bpf(command: int, attributes: bytes) -> int:
    descriptor: int = LIBC.syscall(BPF, command, attributes, len(attributes))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return descriptor
