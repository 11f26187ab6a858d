"""Sockets that a service still holds of forgotten connections are freed."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from keepaliveD.measuring import sweep as module
from keepaliveD.measuring.connection import Connection
from keepaliveD.measuring.opening import Target
from keepaliveD.measuring.sweep import Answer, End, sweep

TARGET = Target("service", socket.AF_INET, ("192.0.2.1", 22), "")
ENDS = [End(("192.0.2.2", port), forgotten=True) for port in range(5000, 5003)]


def swept(monkeypatch: pytest.MonkeyPatch, *answers: list[Answer]) -> tuple[int, list[int]]:
    """How many may be left, and how often each was tried; each has these answers, one after the other."""
    tries: Counter[tuple[str, int]] = Counter()

    async def free(_: Target, address: tuple[str, int]) -> Answer:
        tries[address] += 1
        return answers[[end.address for end in ENDS].index(address)][tries[address] - 1]

    monkeypatch.setattr(module, "_free", free)
    return asyncio.run(sweep(TARGET, ENDS)), [tries[end.address] for end in ENDS]


def test_what_a_busy_machine_could_not_free_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second try there may be nothing left to free."""
    freed = [[Answer.FREED], [Answer.NONE, Answer.AT_ONCE], [Answer.NONE, Answer.NONE]]
    assert swept(monkeypatch, *freed) == (1, [1, 2, 2])


def test_a_service_that_answers_nothing_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert swept(monkeypatch, *[[Answer.NONE]] * 3) == (3, [1, 1, 1])


def test_a_connection_that_stands_at_once_has_freed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind NAT with random ports it said that nothing was left open, while the peer held all of them."""
    assert swept(monkeypatch, *[[Answer.AT_ONCE]] * 3) == (3, [1, 1, 1])


def test_a_connection_that_the_path_knew_was_freed_by_its_own_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(*_: object) -> Answer:
        return Answer.AT_ONCE

    monkeypatch.setattr(module, "_free", at_once)
    assert asyncio.run(sweep(TARGET, [End(ENDS[0].address, forgotten=False)])) == 0


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_service_that_holds_nothing_is_told_from_one_that_is_freed(family: int, address: str) -> None:
    """The end of a connection of IPv6 is bound with its interface, as a link-local address requires."""
    with socket.create_server((address, 0), family=family) as service:
        target = Target("service", socket.AddressFamily(family), service.getsockname())
        with socket.create_connection(service.getsockname()[:2]) as sock:
            connection = Connection(sock)
            assert connection.local_address == sock.getsockname()
        connection.close(silently=True)
        assert asyncio.run(sweep(target, [End(connection.local_address, forgotten=True)])) == 1
