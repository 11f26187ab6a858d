"""Classic BPF filters on sockets, which any program may attach. Source: include/uapi/linux/filter.h, bpf_common.h."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Instruction = tuple[int, int, int, int]  # what, how far to jump if so and if not, its number


class Test(NamedTuple):
    """Something that a packet must have, or must not: what is loaded first, and the jump that asks."""

    loads: tuple[tuple[int, int], ...]
    asks: int
    number: int
    wanted: bool = True


Tests = tuple[Test, ...]

SO_ATTACH_FILTER = 26
LOAD, LOAD_X, A_TO_X = 0x00, 0x01, 0x07
LOAD_WORD, LOAD_HALF, LOAD_BYTE, LOAD_HALF_AT, LOAD_BYTE_AT = 0x20, 0x28, 0x30, 0x48, 0x50  # _AT: from X on
LOAD_IHL = 0xB1  # X is the length of an IPv4 header
JUMP_IF, JUMP_IF_ANY, AND, RETURN = 0x15, 0x45, 0x54, 0x06  # JUMP_IF_ANY: of these bits
INTERFACE = 0xFFFFF000 + 8  # loads the number of the interface
FIND_ATTRIBUTE = 0xFFFFF000 + 12  # loads where the netlink attribute of type X is, searched for from A on; or 0


def attach(target: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the socket receive only what this program accepts. Raises OSError."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    target.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def accept_if(*tests: Test, octets: int) -> list[Instruction]:
    """Return the program that accepts so many octets of what passes all tests."""
    return [*_steps(tests), (RETURN, 0, 0, octets), (RETURN, 0, 0, 0)]


def _steps(tests: Sequence[Test]) -> Iterator[Instruction]:
    left = sum(len(test.loads) + 1 for test in tests)
    for test in tests:
        yield from ((what, 0, 0, number) for what, number in test.loads)
        left -= len(test.loads) + 1
        refuse = left + 1
        yield (test.asks, 0, refuse, test.number) if test.wanted else (test.asks, refuse, 0, test.number)
