"""What is decided of a question about connections of the last scan."""

from __future__ import annotations

import fnmatch
import time

import pytest

from keepaliveD.model.actions import Answer, LookInto
from keepaliveD.model.questions import Asker, ExplainThese
from keepaliveD.model.rules import OnDrift, Rules
from keepaliveD.policy.answers.questions import follow
from tests.support.tables import FIREWALL, idle, table, watch

RULES = Rules({}, OnDrift.REAPPLY, [FIREWALL], [], 60.0)
UNITS = {7: "amanda.service", 8: "amanda@1.service", 9: "cron.service", 10: "amanda.service"}


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (("amanda.service",), [1, 4]),
        (("amanda*",), [1, 2, 4]),
        (("*[!a]@?.*", "cr*"), [3]),
        (("nobody*", "[Ā-\uffff]" * 51), []),
    ],
)
def test_units_are_explained_by_patterns_that_are_neither_kept_nor_compiled(
    patterns: tuple[str, ...], found: list[int]
) -> None:
    """Anybody may send them: the cache of fnmatch has room for 32,768, and each can take 100 ms to compile."""
    judgement = watch(table(1000.0, *(idle(10.0, cookie=number, cgroup=6 + number) for number in range(1, 5))))
    kept, began = fnmatch._compile_pattern.cache_info().currsize, time.thread_time()  # type: ignore[attr-defined]
    action = follow(Asker(1, 1000, 2), ExplainThese(units=patterns), judgement, RULES, UNITS)
    assert time.thread_time() < began + 0.05
    assert fnmatch._compile_pattern.cache_info().currsize == kept  # type: ignore[attr-defined]
    assert isinstance(action, LookInto if found else Answer)
    assert sorted(one.cookie for one in getattr(action, "connections", ())) == found
