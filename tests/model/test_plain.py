"""What is told of a connection some time after the scan that saw it."""

from __future__ import annotations

import dataclasses

import pytest

from keepaliveD.model.connections import Verdict
from keepaliveD.model.plain import from_now
from tests.support.samples import BARE


@pytest.mark.parametrize(
    ("verdict", "left", "certain"),
    [(Verdict.SAFE, 5.0, True), (Verdict.SAFE, 4.0, False), (Verdict.BARE, 4.0, False), (Verdict.CUT, -3.0, True)],
)
def test_only_cut_is_certain_once_the_path_would_have_forgotten(verdict: Verdict, left: float, certain: bool) -> None:
    """A daemon that was stopped for so long knows of no packet since its last scan."""
    later = from_now(dataclasses.replace(BARE, verdict=verdict, left=left, confirmed=True), 4.0)
    assert (later.left, later.confirmed) == (left - 4.0, certain)
