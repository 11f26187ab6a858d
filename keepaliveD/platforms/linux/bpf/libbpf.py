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
import signal
import time
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from socket import SO_KEEPALIVE, SOL_SOCKET
from typing import Any

import numpy as np

from keepaliveD.model import requirements
from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, Unsupported, is_shortage
from keepaliveD.model.requirements import Requirement
from keepaliveD.model.sockets import Column
from keepaliveD.platforms.linux.bpf import twins

LIBRARY = "libbpf.so.1"
WARNING = 0  # enum libbpf_print_level: the others say more than that something failed
MULTI = 2  # BPF_F_ALLOW_MULTI
MOST_PROGRAMS = 64  # in a cgroup, BPF_CGROUP_MAX_PROGS
LINE = 1024  # bytes; a verifier's log is longer, but its first line says it

PACKET = bytes(64)  # the kernel runs no program without an Ethernet header

MISSES = "recursion_misses:"

COMPILE = "run packaging/compile-bpf"

JIFFIES = round(1 / time.clock_getres(6))  # a second; the resolution of CLOCK_MONOTONIC_COARSE is one
CONSTANTS = np.array((JIFFIES, SOL_SOCKET, SO_KEEPALIVE), [("hz", "u4"), ("sol_socket", "u4"), ("so_keepalive", "u4")])
SETTINGS = np.dtype([(name, "i4") for name in ("idle", "interval", "probes", "on")], align=True)
SHARED: twins.Twins = {"constants": CONSTANTS.dtype, "settings": SETTINGS}  # by whoever includes settings.h

Printer = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

SIGNATURES = {  # result, arguments
    "libbpf_set_print": (c_void_p, [Printer]),
    "bpf_object__open_file": (c_void_p, [c_char_p, c_void_p]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__find_map_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_object__find_program_by_name": (c_void_p, [c_void_p, c_char_p]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__reuse_fd": (c_int, [c_void_p, c_int]),
    "bpf_map__max_entries": (c_uint32, [c_void_p]),
    "bpf_map__set_max_entries": (c_int, [c_void_p, c_uint32]),
    "bpf_map__initial_value": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "bpf_map_update_elem": (c_int, [c_int, c_void_p, c_void_p, c_uint64]),
    "bpf_map_update_batch": (c_int, [c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p]),
    "bpf_map_lookup_batch": (
        c_int,
        [c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p],
    ),
    "bpf_map_delete_batch": (c_int, [c_int, c_void_p, POINTER(c_uint32), c_void_p]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_program__set_autoload": (c_int, [c_void_p, c_bool]),
    "bpf_program__expected_attach_type": (c_int, [c_void_p]),
    "bpf_program__attach": (c_void_p, [c_void_p]),
    "bpf_prog_query": (c_int, [c_int, c_int, c_uint32, POINTER(c_uint32), c_void_p, POINTER(c_uint32)]),
    "bpf_prog_test_run_opts": (c_int, [c_int, c_void_p]),
    "bpf_program__attach_iter": (c_void_p, [c_void_p, c_void_p]),
    "bpf_program__attach_cgroup": (c_void_p, [c_void_p, c_int]),
    "bpf_obj_get": (c_int, [c_char_p]),
    "bpf_obj_pin": (c_int, [c_int, c_char_p]),
    "bpf_link_detach": (c_int, [c_int]),
    "bpf_link__fd": (c_int, [c_void_p]),
    "bpf_link__destroy": (c_int, [c_void_p]),
    "bpf_iter_create": (c_int, [c_int]),
    **twins.SIGNATURES,
}


@functools.cache
def _library() -> ctypes.CDLL:
    """Load the library. Raises Unsupported, KernelError."""
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and "No such file" not in str(error):  # the loader gives no number
            raise KernelError(f"{LIBRARY} cannot be loaded: {error}") from error
        raise Unsupported(f"{LIBRARY} is missing or too old; install libbpf1") from error
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


class _MapInfo(ctypes.Structure):
    """The start of union bpf_iter_link_info."""

    _fields_ = (("map_fd", c_uint32), ("rest", c_uint32 * 7))


class _IteratorOptions(ctypes.Structure):
    """struct bpf_iter_attach_opts."""

    _fields_ = (("size", c_size_t), ("info", POINTER(_MapInfo)), ("length", c_uint32))


class _RunOptions(ctypes.Structure):
    """The start of struct bpf_test_run_opts; `data_out` is nothing: the packet is as it was."""

    _fields_ = (("size", c_size_t), ("data", c_char_p), ("data_out", c_void_p), ("length", c_uint32))


class Object:
    """The programs and maps of one object file, in the kernel from load() to close()."""

    def __init__(self, file: Path, shared: twins.Twins, required: Requirement = requirements.BPF) -> None:
        """Open the file, whose programs require this; `shared` are its structures that Python knows.

        Raises Unsupported, also if one of these structures has another layout in the file.
        """
        self._library = _library()
        self._links: list[int] = []
        self._name = file.name
        self._required = required
        if not file.exists():
            raise Unsupported(f"{file.name} is missing: clang was not installed when this was built")
        _said.clear()
        self._object = self._library.bpf_object__open_file(os.fsencode(file), None)
        if not self._object:
            raise _unreadable(self._name, ctypes.get_errno())
        if different := twins.difference(self._library, self._object, shared):
            self.close()
            raise self._outdated(different)

    def preset(self, values: bytes, section: str = ".rodata") -> None:
        """Give the program's constants these values, before load(): the verifier relies on them."""
        size = c_size_t()
        memory = self._library.bpf_map__initial_value(self._map(section), byref(size))
        if len(values) > size.value:
            raise self._outdated(section)
        ctypes.memmove(memory, values, len(values))

    def make_room(self, name: str, count: int) -> None:
        """Let the map of that name have room for so many; before load(). Raises Unsupported."""
        with self._attempt():
            _check(self._library.bpf_map__set_max_entries(self._map(name), count) == 0)

    def leave_out(self, program: str) -> None:
        """Do without this program; before load()."""
        self._library.bpf_program__set_autoload(self._program(program), False)

    def load(self) -> None:
        """Fit the programs to this kernel and have them verified. Raises NotPermitted, Unsupported."""
        with self._attempt(), _without_signals():
            _check(self._library.bpf_object__load(self._object) == 0)

    def reuse(self, name: str, descriptor: int) -> None:
        """Use that map as the one of this name; call it before load(). Raises Unsupported."""
        with self._attempt():
            _check(self._library.bpf_map__reuse_fd(self._map(name), descriptor) == 0)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        """Put one value into the map of that name. Raises KernelError."""
        self._put(name, self._library.bpf_map_update_elem(self.map_fd(name), key, value, 0))

    def put_all(self, name: str, keys: Column, values: Column) -> None:
        """Put these arrays into the map of that name. Raises KernelError."""
        done = self._library.bpf_map_update_batch(
            self.map_fd(name), keys.ctypes.data, values.ctypes.data, byref(c_uint32(len(keys))), None
        )
        self._put(name, done)

    def all_of(self, name: str, key: np.dtype[np.void], value: np.dtype[Any], most: int) -> tuple[Column, Column]:
        """Return the keys and values of a hash of at most so many. Raises KernelError."""
        keys, values = np.zeros(most, key), np.zeros(most, value)
        count, place = c_uint32(most), c_uint32()
        done = self._library.bpf_map_lookup_batch(
            self.map_fd(name), None, byref(place), keys.ctypes.data, values.ctypes.data, byref(count), None
        )
        if done != -errno.ENOENT:  # which says that there are no more
            self._put(name, done)
        return keys[: count.value], values[: count.value]

    def drop_all(self, name: str, keys: Column) -> None:
        """Remove these keys from the map of that name. Raises KernelError."""
        self._put(
            name,
            self._library.bpf_map_delete_batch(self.map_fd(name), keys.ctypes.data, byref(c_uint32(len(keys))), None),
        )

    def shared(self, name: str, kind: np.dtype[np.void], count: int) -> Column:
        """Return the first values of an array (BPF_F_MMAPABLE, or variables): the kernel has the same memory.

        It keeps the array there. Raises NotPermitted, Unsupported.
        """
        if self._library.bpf_map__max_entries(self._map(name)) < count:
            raise self._outdated(name)
        with self._attempt():
            return np.frombuffer(mmap.mmap(self.map_fd(name), count * kind.itemsize), kind)

    def map_fd(self, name: str) -> int:
        """Return the descriptor of a map, which stays open until close()."""
        return int(self._library.bpf_map__fd(self._map(name)))

    def program_fd(self, program: str) -> int:
        """Return the descriptor that run() takes, which stays open until close()."""
        return int(self._library.bpf_program__fd(self._program(program)))

    def skipped(self, program: str) -> int:
        """Return how often the kernel has not run a program, because it interrupted that program to do so.

        0 where the kernel does not say: before Linux 5.12.
        """
        with contextlib.suppress(OSError):
            return skipped(Path(f"/proc/self/fdinfo/{self.program_fd(program)}").read_text(encoding="ascii"))
        return 0

    def attach_iterator(self, program: str, over: int | None = None) -> int:
        """Return a descriptor that open_iterator() takes; it stays open until close().

        `over` is the descriptor of the map whose elements it visits. Raises NotPermitted, Unsupported.
        """
        options = None
        if over is not None:
            info = _MapInfo(over)
            options = byref(
                _IteratorOptions(ctypes.sizeof(_IteratorOptions), ctypes.pointer(info), ctypes.sizeof(info))
            )
        with self._attempt():
            link = self._library.bpf_program__attach_iter(self._program(program), options)
            _check(link)
        self._links.append(link)
        return self.link_fd(link)

    def attach(self, program: str) -> None:
        """Run it wherever its section says, until close(). Raises NotPermitted, Unsupported."""
        with self._attempt():
            link = self._library.bpf_program__attach(self._program(program))
            _check(link)
        self._links.append(link)

    def attach_cgroup(self, program: str, cgroup: Path) -> int:
        """Run a program for a whole cgroup, beside the programs of others, until close(), or as long as it is pinned.

        Raises NotPermitted, Unsupported.
        """
        with self._attempt():
            descriptor = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                link = self._library.bpf_program__attach_cgroup(self._program(program), descriptor)
                if not link and ctypes.get_errno() == errno.EPERM:
                    kind = self._library.bpf_program__expected_attach_type(self._program(program))
                    if others := _alone(self._library, descriptor, kind):
                        raise Unsupported(
                            f"{cgroup}: BPF program {others} is attached there and allows no other one of its type "
                            "(no BPF_F_ALLOW_MULTI); see bpftool cgroup show"
                        )
                    ctypes.set_errno(errno.EPERM)
            finally:
                os.close(descriptor)
            _check(link)
        self._links.append(link)
        return int(link)

    def link_fd(self, link: int) -> int:
        """Return the descriptor of what attach_cgroup() began, which stays open until close()."""
        return int(self._library.bpf_link__fd(link))

    def close(self) -> None:
        """Remove everything from the kernel."""
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
            raise self._outdated(name)
        return pointer

    def _outdated(self, what: str) -> Unsupported:
        return Unsupported(f"{self._name} is from another version ({what} differs): {COMPILE}")

    @contextlib.contextmanager
    def _attempt(self) -> Iterator[None]:
        """Turn the failure of a call into one line."""
        _said.clear()
        try:
            yield
        except OSError as error:
            raise _refusal(self._name, self._required, error) from error


def skipped(fdinfo: str) -> int:
    """Return how often a program was not run, from what /proc says of its descriptor (bpf_prog_show_fdinfo)."""
    return sum(int(line.removeprefix(MISSES)) for line in fdinfo.splitlines() if line.startswith(MISSES))


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """Let signals to this thread wait: the kernel gives up verifying (EAGAIN) where one has arrived."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def open_iterator(link: int) -> int:
    """Return a descriptor to read an iterator from once; it walks the calling thread's network namespace.

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


def run_with_packet(program: int) -> None:
    """Run a program of type tc once, with an empty packet of the calling thread's namespace. Raises KernelError."""
    options = _RunOptions(ctypes.sizeof(_RunOptions), PACKET, None, len(PACKET))
    result = int(_library().bpf_prog_test_run_opts(program, byref(options)))
    if result:
        raise KernelError(f"BPF: a program cannot be run: {os.strerror(-result)}")


def open_pinned(path: Path) -> int:
    """Return a descriptor of what is pinned at this path. Raises OSError."""
    descriptor = int(_library().bpf_obj_get(os.fsencode(path)))
    _check(descriptor >= 0)
    return descriptor


def detach(link: int) -> None:
    """Detach the program of this descriptor, wherever it is pinned. Raises OSError."""
    _check(_library().bpf_link_detach(link) == 0)


def pin(descriptor: int, path: Path) -> None:
    """Keep a map, or a program where it is attached, as long as this file exists. Raises OSError."""
    _check(_library().bpf_obj_pin(descriptor, os.fsencode(path)) == 0)


def _alone(library: ctypes.CDLL, cgroup: int, kind: int) -> int:
    """Return the id of a program of this type after which no other may be attached to this cgroup, or 0."""
    flags, count, programs = c_uint32(), c_uint32(MOST_PROGRAMS), (c_uint32 * MOST_PROGRAMS)()
    if library.bpf_prog_query(cgroup, kind, 0, byref(flags), programs, byref(count)):
        return 0
    return programs[0] if count.value and not flags.value & MULTI else 0


def _check(fine: object) -> None:
    if not fine:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _refusal(name: str, required: Requirement, error: OSError) -> Refusal:
    if error.errno == errno.EPERM:
        return NotPermitted(
            f"BPF is not permitted: requires {required.named}, and a sandbox that allows bpf(2); "
            "the optional drop-in bpf.conf gives both to the unit"
        )
    if is_shortage(error):
        return KernelError(f"{name}: {error.strerror}")
    reason = _reason(error.errno)
    return Unsupported(
        f"{name}: {reason}; requires Linux {required.linux} or later with its BTF (/sys/kernel/btf/vmlinux)"
    )


def _unreadable(name: str, code: int) -> Refusal:
    error = OSError(code, os.strerror(code))
    if is_shortage(error):
        return KernelError(f"{name}: {error.strerror}")
    return Unsupported(f"{name} cannot be read: {_reason(code)}; {COMPILE}")


def _reason(code: int | None) -> str:
    """Return the reason of a failure that libbpf gives, or the kernel."""
    said = next((line for text in _said for line in text.splitlines()), "")
    return said.removeprefix("libbpf: ") or os.strerror(code or 0)
