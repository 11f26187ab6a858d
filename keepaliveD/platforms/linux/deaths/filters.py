"""Classic BPF filters on sockets, which any program may attach. Source: include/uapi/linux/filter.h, bpf_common.h."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

Instruction = tuple[int, int, int, int]  # what, how far to jump if so and if not, its number

SO_ATTACH_FILTER = 26
LOAD, LOAD_X, A_TO_X = 0x00, 0x01, 0x07
LOAD_WORD, LOAD_BYTE, LOAD_HALF_AT, LOAD_BYTE_AT = 0x20, 0x30, 0x48, 0x50  # _AT: from X on
LOAD_IHL = 0xB1  # X is the length of an IPv4 header
JUMP_IF, RETURN = 0x15, 0x06
FIND_ATTRIBUTE = 0xFFFFF000 + 12  # loads where the netlink attribute of type X is, searched for from A on; or 0


def attach(target: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the socket receive only what this program accepts. Raises OSError."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    target.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))
