"""The few calls of libbpf that load a program and attach it, by ctypes.

libbpf.so.1 promises a stable interface (its libbpf.map); Debian 12 has 1.1, Debian 13 has 1.5.
Source: tools/lib/bpf/libbpf.h, bpf.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import struct
import time
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from socket import SO_KEEPALIVE, SOL_SOCKET

import numpy as np

from keepaliveD.errors import KernelError, NotPermitted, Refusal, Unsupported
from keepaliveD.sockets import Column

LIBRARY = "libbpf.so.1"
WARNING = 0  # enum libbpf_print_level: the others say more than that something failed
LINE = 1024  # bytes; a verifier's log is longer, but its first line says it

JIFFIES = round(1 / time.clock_getres(6))  # a second; the resolution of CLOCK_MONOTONIC_COARSE is one
CONSTANTS = struct.pack("=III", JIFFIES, SOL_SOCKET, SO_KEEPALIVE)  # of settings.h

Printer = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

SIGNATURES = {  # result, arguments
    "libbpf_set_print": (c_void_p, [Printer]),
    "bpf_object__open_file": (c_void_p, [c_char_p, c_void_p]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__find_map_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_object__find_program_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__initial_value": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "bpf_map_update_elem": (c_int, [c_int, c_void_p, c_void_p, c_uint64]),
    "bpf_map_update_batch": (c_int, [c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p]),
    "bpf_map_delete_batch": (c_int, [c_int, c_void_p, POINTER(c_uint32), c_void_p]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_prog_test_run_opts": (c_int, [c_int, c_void_p]),
    "bpf_program__attach_iter": (c_void_p, [c_void_p, c_void_p]),
    "bpf_program__attach_cgroup": (c_void_p, [c_void_p, c_int]),
    "bpf_link__pin": (c_int, [c_void_p, c_char_p]),
    "bpf_link__fd": (c_int, [c_void_p]),
    "bpf_link__destroy": (c_int, [c_void_p]),
    "bpf_iter_create": (c_int, [c_int]),
}


@functools.cache
def _library() -> ctypes.CDLL:
    """Raises Unsupported."""
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise Unsupported(f"{LIBRARY} is missing or too old: install libbpf1") from error
    library.libbpf_set_print(PRINTER)
    return library


_said: list[str] = []  # what libbpf has said since the last call began


def _print(level: int, form: bytes, arguments: int) -> int:
    """Keep what libbpf would print to standard error."""
    if level == WARNING:
        text = ctypes.create_string_buffer(LINE)
        ctypes.CDLL(None).vsnprintf(text, c_size_t(LINE), c_char_p(form), c_void_p(arguments))
        _said.append(text.value.decode(errors="replace"))
    return 0


PRINTER = Printer(_print)  # libbpf keeps nothing but its address


class Object:
    """The programs and maps of one object file, in the kernel from load() to close()."""

    def __init__(self, file: Path, linux: str = "5.15") -> None:
        """Open it; `linux` is what it needs. Raises Unsupported."""
        self._library = _library()
        self._links: list[int] = []
        self._name = file.name
        self._linux = linux
        if not file.exists():
            raise Unsupported(f"{file.name} was not built: clang was missing when this was packaged")
        with self._attempt():
            self._object = self._library.bpf_object__open_file(os.fsencode(file), None)
            _check(self._object)

    def preset(self, values: bytes, section: str = ".rodata") -> None:
        """Give the program's constants these values; before load(), for the verifier counts on them."""
        size = c_size_t()
        memory = self._library.bpf_map__initial_value(self._map(section), byref(size))
        if len(values) > size.value:
            raise KernelError(f"{self._name}: {size.value} bytes of constants, not {len(values)}")
        ctypes.memmove(memory, values, len(values))

    def load(self) -> None:
        """Fit it to this kernel and have it verified. Raises NotPermitted, Unsupported."""
        with self._attempt():
            _check(self._library.bpf_object__load(self._object) == 0)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        """Put this into the map of that name. Raises KernelError."""
        self._put(name, self._library.bpf_map_update_elem(self.map_fd(name), key, value, 0))

    def put_all(self, name: str, keys: Column, values: Column) -> None:
        """Put these arrays into the map of that name. Raises KernelError."""
        done = self._library.bpf_map_update_batch(
            self.map_fd(name), keys.ctypes.data, values.ctypes.data, byref(c_uint32(len(keys))), None
        )
        self._put(name, done)

    def drop_all(self, name: str, keys: Column) -> None:
        """Take these keys out of it. Raises KernelError."""
        self._put(
            name,
            self._library.bpf_map_delete_batch(self.map_fd(name), keys.ctypes.data, byref(c_uint32(len(keys))), None),
        )

    def shared(self, name: str, kind: np.dtype[np.void], count: int) -> Column:
        """The first values of an array (BPF_F_MMAPABLE, or variables): the same memory here and in the kernel.

        It keeps the array there. Raises NotPermitted, Unsupported.
        """
        with self._attempt():
            return np.frombuffer(mmap.mmap(self.map_fd(name), count * kind.itemsize), kind)

    def map_fd(self, name: str) -> int:
        """The descriptor of a map, which stays open until close()."""
        return int(self._library.bpf_map__fd(self._map(name)))

    def program_fd(self, program: str) -> int:
        """What run() takes; it stays open until close()."""
        return int(self._library.bpf_program__fd(self._program(program)))

    def attach_iterator(self, program: str) -> int:
        """A descriptor that open_iterator() takes; it stays open until close(). Raises NotPermitted, Unsupported."""
        with self._attempt():
            link = self._library.bpf_program__attach_iter(self._program(program), None)
            _check(link)
        self._links.append(link)
        return int(self._library.bpf_link__fd(link))

    def attach_cgroup(self, program: str, cgroup: Path) -> int:
        """Run it for all of that cgroup, beside what others attach there; until close(), or while pin() has it.

        Raises NotPermitted, Unsupported.
        """
        with self._attempt():
            descriptor = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                link = self._library.bpf_program__attach_cgroup(self._program(program), descriptor)
            finally:
                os.close(descriptor)
            _check(link)
        self._links.append(link)
        return int(link)

    def pin(self, link: int, path: Path) -> None:
        """Have what attach_cgroup() began go on as long as this file exists; its directory is made. Raises OSError."""
        _check(self._library.bpf_link__pin(link, os.fsencode(path)) == 0)

    def close(self) -> None:
        """Take everything out of the kernel."""
        for link in self._links:
            self._library.bpf_link__destroy(link)
        self._links.clear()
        self._library.bpf_object__close(self._object)
        self._object = None

    def _put(self, name: str, result: int) -> None:
        if result:
            raise KernelError(f"{self._name}: {name}: {os.strerror(-result)}")

    def _map(self, name: str) -> int:
        return self._found(self._library.bpf_object__find_map_by_name(self._object, name.encode()), name)

    def _program(self, name: str) -> int:
        return self._found(self._library.bpf_object__find_program_by_name(self._object, name.encode()), name)

    def _found(self, pointer: int | None, name: str) -> int:
        if not pointer:
            raise Unsupported(f"{self._name}: no {name} in it: it is of another version")
        return pointer

    @contextlib.contextmanager
    def _attempt(self) -> Iterator[None]:
        """Turn the failure of a call into one line."""
        _said.clear()
        try:
            yield
        except OSError as error:
            raise _refusal(self._name, self._linux, error) from error


def open_iterator(link: int) -> int:
    """A descriptor to read an iterator from once; it walks the calling thread's network namespace.

    Raises KernelError.
    """
    fd = int(_library().bpf_iter_create(link))
    if fd < 0:
        raise KernelError(f"BPF: an iterator cannot be opened: {os.strerror(-fd)}")
    return fd


def run(program: int) -> None:
    """Run a program of type raw_tp once, here and now. Raises KernelError."""
    result = int(_library().bpf_prog_test_run_opts(program, None))
    if result:
        raise KernelError(f"BPF: a program cannot be run: {os.strerror(-result)}")


def _check(fine: object) -> None:
    if not fine:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _refusal(name: str, linux: str, error: OSError) -> Refusal:
    if error.errno == errno.EPERM:
        return NotPermitted(
            "the kernel refuses BPF: it needs CAP_BPF and CAP_PERFMON, and a sandbox that allows bpf(2)"
        )
    said = next((line for text in _said for line in text.splitlines()), "")
    reason = said.removeprefix("libbpf: ") or error.strerror
    return Unsupported(f"{name}: {reason}; it needs Linux {linux} or later with its BTF (/sys/kernel/btf/vmlinux)")
