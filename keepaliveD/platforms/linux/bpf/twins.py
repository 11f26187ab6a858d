"""Structures that C and Python share, compared by the type information (BTF) of an object file.

An object that was made from other sources would be written and read at the wrong places, in silence.
Source: include/uapi/linux/btf.h, tools/lib/bpf/btf.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from ctypes import c_char_p, c_int, c_int64, c_uint32, c_void_p
from typing import Any, NamedTuple

import numpy as np

SIGNATURES = {  # result, arguments
    "bpf_object__btf": (c_void_p, [c_void_p]),
    "btf__find_by_name_kind": (c_int, [c_void_p, c_char_p, c_uint32]),
    "btf__name_by_offset": (c_char_p, [c_void_p, c_uint32]),
    "btf__resolve_size": (c_int64, [c_void_p, c_uint32]),
    "btf__resolve_type": (c_int, [c_void_p, c_uint32]),
    "btf__type_by_id": (c_void_p, [c_void_p, c_uint32]),
}
STRUCT, VARIABLE = 4, 14  # BTF_KIND_STRUCT, BTF_KIND_VAR

Twins = Mapping[str, np.dtype[np.void]]  # by the name of a structure in C, or of a variable of a nameless one


class _Type(ctypes.Structure):
    """struct btf_type."""

    _fields_ = (("name", c_uint32), ("info", c_uint32), ("size", c_uint32))


class _Member(ctypes.Structure):
    """struct btf_member; the offset is in bits."""

    _fields_ = (("name", c_uint32), ("type", c_uint32), ("offset", c_uint32))


class _Place(NamedTuple):
    """The place of a member, in bytes."""

    offset: int
    size: int


def difference(library: ctypes.CDLL, opened: int, twins: Twins) -> str:
    """Return the first structure or member of an opened object that is not as its twin, or nothing.

    Takes 0.2 ms for the largest object.
    """
    types = _Types(library, library.bpf_object__btf(opened))
    for name, twin in twins.items():
        number = types.find(name)
        if number is None or types.size(number) != twin.itemsize:
            return name
        there = dict(types.members(number))
        for member, place in _fields(twin):
            if there.get(member) != place:
                return f"{name}.{member}"
    return ""


def _fields(kind: np.dtype[Any], before: str = "", start: int = 0) -> Iterator[tuple[str, _Place]]:
    """Return all fields, also those inside others, whose names are joined by "_"."""
    for name, (inner, offset, *_) in (kind.fields or {}).items():
        yield before + name, _Place(start + offset, inner.itemsize)
        yield from _fields(inner, f"{before}{name}_", start + offset)


class _Types:
    """The type information of one object."""

    def __init__(self, library: ctypes.CDLL, btf: int) -> None:
        self._library = library
        self._btf = btf

    def find(self, name: str) -> int | None:
        """Return the number of a structure, or of a variable's type."""
        for kind in (STRUCT, VARIABLE):
            number: int = self._library.btf__find_by_name_kind(self._btf, name.encode(), kind)
            if number > 0:
                return number
        return None

    def size(self, number: int) -> int:
        """Return the bytes that it takes."""
        return int(self._library.btf__resolve_size(self._btf, number))

    def members(self, number: int, before: str = "", start: int = 0) -> Iterator[tuple[str, _Place]]:
        """Return all members, also those inside others, whose names are joined by "_"; none if it is no structure."""
        address = self._library.btf__type_by_id(self._btf, self._library.btf__resolve_type(self._btf, number))
        info = _Type.from_address(address).info
        if info >> 24 & 31 != STRUCT:
            return
        for member in (_Member * (info & 0xFFFF)).from_address(address + ctypes.sizeof(_Type)):
            name = before + self._library.btf__name_by_offset(self._btf, member.name).decode()
            offset = start + member.offset // 8
            yield name, _Place(offset, self.size(member.type))
            yield from self.members(member.type, f"{name}_", offset)
