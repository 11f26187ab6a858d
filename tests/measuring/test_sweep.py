"""Sockets that a service still holds of forgotten connections are freed."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from keepaliveD.measuring import sweep as module
from keepaliveD.measuring.opening import Target
from keepaliveD.measuring.sweep import sweep

TARGET = Target("service", socket.AF_INET, ("192.0.2.1", 22), "")
ENDS = [("192.0.2.2", port) for port in range(5000, 5003)]


def swept(monkeypatch: pytest.MonkeyPatch, *succeeds_at: int) -> tuple[int, Counter[tuple[str, int]]]:
    """How many could not be freed, and how often each was tried; each succeeds at this try, or never."""
    tries: Counter[tuple[str, int]] = Counter()

    async def free(_: Target, end: tuple[str, int]) -> bool:
        tries[end] += 1
        return tries[end] >= succeeds_at[ENDS.index(end)]

    monkeypatch.setattr(module, "_free", free)
    return asyncio.run(sweep(TARGET, ENDS)), tries


def test_what_a_busy_machine_could_not_free_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    left, tries = swept(monkeypatch, 1, 2, 9)
    assert left == 1
    assert [tries[end] for end in ENDS] == [1, 2, 2]


def test_a_service_that_answers_nothing_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    left, tries = swept(monkeypatch, 9, 9, 9)
    assert left == 3
    assert set(tries.values()) == {1}
