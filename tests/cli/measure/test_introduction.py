"""The daemon is told which connections measure a path, as long as it listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from keepaliveD.cli.measure import introduction as module
from keepaliveD.cli.measure.introduction import IN_VAIN, Introduction
from keepaliveD.measuring.connection import Connection
from keepaliveD.model.errors import KernelError, NoInput, NotPermitted

SLOW = KernelError("the daemon does not answer: timed out")


def introduced(answers: list[Exception | None], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the daemon is asked, if it answers ten connections so, and the rest with the last answer."""
    asked = iter([*answers, *[answers[-1]] * 10])
    count = 0

    def ask(*_: object) -> None:
        nonlocal count
        count += 1
        if error := next(asked):
            raise error

    monkeypatch.setattr(module, "ask", cast(Callable[..., None], ask))
    introduce = Introduction(Path("/nowhere"))
    for cookie in range(10):
        asyncio.run(introduce(cast(Connection, SimpleNamespace(cookie=cookie))))
    return count


@pytest.mark.parametrize(
    ("answers", "times"),
    [
        ([None], 10),
        ([NoInput("no daemon")], 10),
        ([SLOW, None], 10),
        ([SLOW, SLOW, None, SLOW, SLOW, None], 10),
        ([SLOW], IN_VAIN),
        ([NotPermitted("root alone")], 1),
    ],
    ids=["it answers", "none runs", "slow once", "slow now and then", "it hangs", "it may not be asked"],
)
def test_a_daemon_is_asked_until_it_is_in_vain(
    answers: list[Exception | None], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was slow once on a busy machine had the other 70 ends of a measurement in its counts."""
    assert introduced(answers, monkeypatch) == times
