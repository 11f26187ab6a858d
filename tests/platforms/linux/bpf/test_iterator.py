"""An iterator that visits everything shows that it goes on."""

from __future__ import annotations

import os

import pytest

from keepaliveD.platforms import touching
from keepaliveD.platforms.linux.bpf.iterator import exhaust


def test_each_octet_that_an_iterator_writes_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """To visit a million sockets may take longer than a worker that does nothing is waited for."""
    turns: list[int] = []
    monkeypatch.setattr(touching, "on", lambda: turns.append(1))
    reader, writer = os.pipe()
    os.write(writer, bytes(3))
    os.close(writer)
    exhaust(reader)
    assert len(turns) == 4
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


def test_an_iterator_is_left_as_soon_as_it_is_enough() -> None:
    """Of a million sockets the wanted ones may be the first."""
    reader, writer = os.pipe()
    kept = os.dup(reader)
    os.write(writer, bytes(3))
    os.close(writer)
    exhaust(reader, iter([False, True]).__next__)
    assert len(os.read(kept, 3)) == 1
    os.close(kept)
