"""What the iterator told, as rows; the kernel is left out."""

from __future__ import annotations

import os
from typing import Any, cast

import numpy as np
import pytest

from keepaliveD.model.sockets import Column, Sockets
from keepaliveD.platforms.linux.bpf import iterator
from keepaliveD.platforms.linux.bpf.reader import BpfIterator, Namespace
from keepaliveD.platforms.linux.bpf.records import RECORD


class Engine:
    """Opens nothing."""

    def open_in(self, namespace: int) -> int:
        return namespace


def told(*cookies: int) -> Column:
    """Records of these sockets, in all else alike."""
    records = np.zeros(len(cookies), RECORD)
    records["cookie"] = cookies
    return records


@pytest.mark.parametrize("before", [0, 2])
def test_a_socket_that_is_reported_twice_is_one(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    """Its bucket changed between two reads; what other namespaces told stays."""

    def records(*_: Any) -> list[Column]:
        return [told(5, 3), told(3, 9, 5)]

    monkeypatch.setattr(iterator, "records", records)
    sockets = Sockets()
    sockets.extend(before)["cookie"][:] = 5
    namespace = Namespace(cast("BpfIterator", Engine()), os.open("/dev/null", os.O_RDONLY))
    assert namespace.dump(1, sockets, bytearray())
    namespace.close()
    assert sockets["cookie"].tolist() == [5] * before + [5, 3, 9]
