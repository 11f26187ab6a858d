"""Fresh connections tell an outage from a far end that is gone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TypeVar

import pytest

from keepaliveD.measuring import far_end as module
from keepaliveD.measuring.far_end import OUTAGE, REFUSING, FarEnd
from keepaliveD.measuring.opening import Refused, Target
from keepaliveD.model.errors import Refusal, Unreachable
from tests.measuring.hurried import PEER, RTT, Hurried

T = TypeVar("T")


class Stage:
    """A far end to which no fresh connection stands from `down` until `up`, in seconds from the start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[Refusal], down: float, up: float = math.inf) -> None:
        self.loop = Hurried()
        self.began = self.loop.time()
        self.woken = 0
        self.far_end = FarEnd(PEER, self._wake)

        async def absence(_: Target) -> Refusal | None:
            refusal = kind("peer: is away") if down <= self.since < up else None
            await asyncio.sleep(RTT)
            return refusal

        monkeypatch.setattr(module, "absence", absence)
        clock = SimpleNamespace(monotonic=self.loop.time, strftime=lambda _: "12:00:00")
        monkeypatch.setattr(module, "time", clock)

    @property
    def since(self) -> float:
        return self.loop.time() - self.began

    def _wake(self) -> None:
        self.woken += 1

    def run(self, ask: Callable[[], Awaitable[T]]) -> T:
        async def asked() -> T:
            return await ask()

        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            return runner.run(asked())


@pytest.mark.parametrize(
    ("kind", "after", "how"),
    [(Refused, REFUSING, "the listener ended"), (Unreachable, OUTAGE, "it stopped taking connections")],
    ids=["refuses", "is silent"],
)
def test_a_far_end_that_stays_away_is_given_up(
    kind: type[Refusal], after: float, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(monkeypatch, kind, down=0.0)
    assert not stage.run(stage.far_end.path_is_up)
    assert stage.far_end.gone == f"peer: {how} at 12:00:00; what ended then is not counted"
    assert stage.woken == 1
    assert after < stage.since < after + 3.0


def test_an_outage_is_waited_out_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, Unreachable, down=0.0, up=60.0)
    assert stage.run(stage.far_end.path_is_up)
    assert (stage.far_end.outages, stage.far_end.gone, stage.woken) == (1, "", 0)
    assert 60.0 <= stage.since < 62.0


def test_all_that_ask_at_a_time_share_one_fresh_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, Unreachable, down=math.inf)
    assert all(stage.run(lambda: asyncio.gather(*(stage.far_end.path_is_up() for _ in range(50)))))
    assert stage.far_end.tried == 1


@pytest.mark.parametrize(("down", "there"), [(0.5, False), (30.0, True)], ids=["ends", "lives"])
def test_a_service_that_closed_is_there_only_if_it_takes_connections_a_moment_later(
    down: float, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that ends may close its port last."""
    stage = Stage(monkeypatch, Refused, down=down, up=5.0 if down < 1.0 else math.inf)
    assert stage.run(lambda: stage.far_end.is_there(closed=True)) is there
