"""How long arming is suspended after a refusal."""

from __future__ import annotations

import pytest

from keepaliveD.model.errors import KernelError, NotPermitted, Refusal, StateError, Unsupported
from keepaliveD.policy.arming.suspension import FIRST_PAUSE, LONGEST_PAUSE, refused


@pytest.mark.parametrize("refusal", [KernelError("no answer"), StateError("no space")])
def test_what_may_have_passed_is_tried_at_the_next_scan(refusal: Refusal) -> None:
    assert refused(None, refusal, 100.0).until == 100.0


@pytest.mark.parametrize("refusal", [NotPermitted("no"), Unsupported("too old")])
def test_what_another_try_mostly_meets_again_is_tried_at_growing_intervals(refusal: Refusal) -> None:
    now, pauses, suspension = 100.0, list[float](), None
    for _ in range(8):
        suspension = refused(suspension, refusal, now)
        pauses.append(suspension.until - now)
        now = suspension.until
    assert pauses == [FIRST_PAUSE, 120.0, 240.0, 480.0, 960.0, 1920.0, LONGEST_PAUSE, LONGEST_PAUSE]


def test_it_says_for_how_long_and_why_the_last_try_was_refused() -> None:
    suspension = refused(refused(None, KernelError("first"), 100.0), NotPermitted("second"), 200.0)
    assert suspension.describe(220.0) == "arming suspended for 2min: second"
